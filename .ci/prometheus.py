#!/usr/bin/env python3
"""prometheus.py FOLDER METRICS...: the part of .ci/prometheus that reads files. METRICS are answers of /metrics; FOLDER is an empty place."""
import glob
import json
import pathlib
import re
import shutil
import subprocess
import sys

import yaml

FOLDER, METRICS = pathlib.Path(sys.argv[1]), sys.argv[2:]
PROMETHEUS, GRAFANA = pathlib.Path("deploy/prometheus"), pathlib.Path("deploy/grafana")
# Labels that Prometheus adds, and those of a bucket.
ADDED = {"job", "instance", "le"}


def promtool(*words, cwd=None):
    ran = subprocess.run(["promtool", *map(str, words)], cwd=cwd, capture_output=True, text=True)
    return ran.returncode == 0, (ran.stdout + ran.stderr).strip()


def must(passed, what):
    if not passed:
        sys.exit(f"prometheus: {what}")


def sources(pattern):
    return "\n".join(open(path).read() for path in glob.glob(pattern, recursive=True))


def answered():
    """The names and the labels in the answers, with those of histograms."""
    names, labels = set(), set()
    for path in METRICS:
        text = open(path).read()
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)", text, re.M):
            names.update([f"{name}_{part}" for part in ("bucket", "sum", "count")] if kind == "histogram" else [name])
        labels.update(re.findall(r'[{,](\w+)="', text))
    return names, labels


NAMES, LABELS = answered()
OF_SERVICES = sources("services/*/src/**/*.rs")
OF_CRATES = sources("crates/*/src/**/*.rs")
# Those that a project without such services cannot show; and the broker's, which need the feature nats, and that of builds which do
# not fit: these do.
UNSEEN = [prefix for prefix, is_seen in [
    ("mesh_carrier_", False),
    ("mesh_release_unmet", False),
    ("mesh_follow_", "SOURCE: &'static str" in OF_SERVICES),
    ("mesh_saga_", "Saga" in OF_SERVICES),
    ("mesh_peer_", "pub fn service()" in OF_SERVICES),
    ("mesh_calls_denied_", "pub fn service()" in OF_SERVICES),
] if not is_seen]


def wrong(expression):
    """What an expression names and no process has."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    found = []
    for name in set(re.findall(r"\b(?:grpc|mesh|process)_\w+", bare)):
        label = re.search(rf"\b{name}\s*(?:=|!=|=~|!~)\s*\"", bare) or re.search(rf"(?:by|without) \([^)]*\b{name}\b", bare)
        if label:
            continue
        literal = name.removesuffix("_total")
        is_unseen = any(name.startswith(prefix) for prefix in UNSEEN) and f'"{literal}' in OF_CRATES
        if name not in NAMES and not is_unseen:
            found.append(f"no process has the metric {name}")
    labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", bare))
    for group in re.findall(r"(?:by|without) \(([^)]*)\)", bare):
        labels.update(word.strip() for word in group.split(","))
    unseen = {"source", "kind", "rule", "peer", "endpoint"} if UNSEEN[2:] else set()
    found += [f"no metric has the label {label}" for label in labels - LABELS - ADDED - unseen]
    return found


def check_expressions(where, expressions):
    for expression in expressions:
        found = wrong(expression)
        must(not found, f"{where}: {found} in {expression}")


def refused(path, mistake, answer):
    """promtool refuses a mistake that is seeded, and says why."""
    passed, said = answer
    must(not passed, f"{path}: promtool takes {mistake}")
    lines = [line.strip() for line in said.replace(str(FOLDER), "").splitlines()]
    why = next((line for line in lines if re.search("error|exp:|alertname|not found", line)), lines[-1] if lines else "")
    print(f"seeded: {path}: {mistake}: {why}")


def check_rules():
    text = (PROMETHEUS / "alerts.yml").read_text()
    passed, said = promtool("check", "rules", PROMETHEUS / "alerts.yml")
    must(passed, said)
    passed, said = promtool("test", "rules", PROMETHEUS / "alerts.test.yml")
    must(passed, said)
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    check_expressions("alerts.yml", [rule["expr"] for rule in rules])
    # Each alert that never fires fails the tests.
    place = FOLDER / "prometheus"
    shutil.copytree(PROMETHEUS, place)
    for rule in rules:
        mistaken = yaml.safe_load(text)
        for group in mistaken["groups"]:
            for other in group["rules"]:
                if other["alert"] == rule["alert"]:
                    other["expr"] = "vector(0) > 1"
        (place / "alerts.yml").write_text(yaml.safe_dump(mistaken))
        refused("deploy/prometheus/alerts.yml", f"{rule['alert']} never fires", promtool("test", "rules", "alerts.test.yml", cwd=place))
    (place / "alerts.yml").write_text(text.replace("expr: up{", "expr: up{{", 1))
    refused("deploy/prometheus/alerts.yml", "an expression that is none", promtool("check", "rules", place / "alerts.yml"))
    return len(rules)


def check_configurations():
    """Debian's promtool has no discovery: a list of targets stands for it."""
    place = FOLDER / "configurations"
    shutil.copytree(PROMETHEUS, place)
    for path in sorted(PROMETHEUS.glob("*.yml")):
        config = yaml.safe_load(path.read_text())
        if "scrape_configs" not in config:
            continue
        must([job["job_name"] for job in config["scrape_configs"]] == ["mesh"], f"{path}: the alerts take the job mesh")
        for job in config["scrape_configs"]:
            for key in [key for key in job if key.endswith("_sd_configs")]:
                del job[key]
                job["static_configs"] = [{"targets": ["127.0.0.1:8080"]}]
        (place / path.name).write_text(yaml.safe_dump(config))
        passed, said = promtool("check", "config", place / path.name)
        must(passed, f"{path}: {said}")
        (place / path.name).write_text(yaml.safe_dump(dict(config, rule_file=[])))
        refused(path, "a key that Prometheus does not know", promtool("check", "config", place / path.name))


def expressions(dashboard):
    def of(panels):
        for panel in panels:
            yield from (target["expr"] for target in panel.get("targets", []))
            yield from of(panel.get("panels", []))

    return list(of(dashboard["panels"]))


def as_rules(name, found):
    """Grafana's variables, as it fills them in."""
    for variable, value in {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}.items():
        found = [one.replace(variable, value) for one in found]
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(found)]
    path = FOLDER / f"{name}.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}))
    return promtool("check", "rules", path)


def check_dashboards():
    uids, count = set(), 0
    for path in sorted(GRAFANA.glob("*.json")):
        dashboard = json.loads(path.read_text())
        must(dashboard["uid"] not in uids, f"{path}: two dashboards have one uid")
        uids.add(dashboard["uid"])
        ids = [panel["id"] for panel in dashboard["panels"]]
        must(len(ids) == len(set(ids)), f"{path}: two panels have one id")
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            must(place["x"] + place["w"] <= 24, f"{path}: {panel['title']} is wider than the page")
            for one in [panel, *panel.get("targets", [])]:
                must(one.get("datasource", {"uid": "${datasource}"})["uid"] == "${datasource}", f"{path}: a source of its own")
        variables = {one["name"] for one in dashboard["templating"]["list"]}
        found = expressions(dashboard)
        used = set(re.findall(r"\$(\w+)", " ".join(found))) - {"__rate_interval"}
        must(used <= variables, f"{path}: there is no variable {used - variables}")
        passed, said = as_rules(path.stem, found)
        must(passed, f"{path}: {said}")
        check_expressions(path, found)
        refused(path, "an expression that is none", as_rules(path.stem, [found[0] + ")"]))
        count += len(found)
    return count


for mistaken in ["rate(grpc_server_handeled_total[5m])", 'mesh_service_ready{servce="a"}', "sum by (sevice) (mesh_service_ready)"]:
    found = wrong(mistaken)
    must(found, f"a name that no process has is taken: {mistaken}")
    print(f"seeded: deploy/grafana and deploy/prometheus: {mistaken}: no process has {found}")
rules, panels = check_rules(), check_dashboards()
check_configurations()
print(f"{rules} alerts with tests, {panels} expressions of dashboards, {len(NAMES)} metrics")
