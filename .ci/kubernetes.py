#!/usr/bin/env python3
"""kubernetes.py FILE...: checks what `kubectl kustomize` made of deploy/kubernetes, for what schemas do not say: that the objects fit each
other, the contracts and mesh.toml. Mistakes that are seeded must be found. .ci/deploy calls it; it needs PyYAML."""
import glob
import re
import sys

import yaml


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|min)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "min": 60}[unit]


def setting(key):
    """The value of mesh.toml, or its default, which stands in a comment."""
    return re.search(rf'^(?:# )?{key} = "(.*)"', open("mesh.toml").read(), re.M).group(1)


def contracts():
    found = set()
    for path in glob.glob("proto/*/v*/*.proto"):
        text = open(path).read()
        package = re.search(r"^package (.*);", text, re.M).group(1)
        found.update(f"{package}.{name}" for name in re.findall(r"^service (\w+)", text, re.M))
    return found


CONTRACTS = contracts()
SERVICES = {path.split("/")[1] for path in glob.glob("services/*/src/lib.rs")}
OWNERS = {path.split("/")[1] for path in glob.glob("services/*/migrations")}
NOT_SERVICES = {"gateway", "monolith"}
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def selects(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


class Objects:
    def __init__(self, text):
        self.all = [each for each in yaml.safe_load_all(text) if each]
        self.wrong = []
        self.settings = {}
        for each in self.of("ConfigMap"):
            self.settings.update(each["data"])

    def of(self, kind):
        return [each for each in self.all if each["kind"] == kind]

    def named(self, kind, name):
        return next((each for each in self.of(kind) if each["metadata"]["name"] == name), None)

    def must(self, holds, what):
        if not holds:
            self.wrong.append(what)

    def pods(self, selector):
        found = [each for each in self.of("Deployment") if selects(selector, labels(each))]
        return found

    def check(self):
        names = [(each["kind"], each["metadata"]["name"]) for each in self.all]
        self.must(len(names) == len(set(names)), "two objects have one name")
        for each in self.of("Deployment"):
            self.deployment(each)
        for each in self.of("Service"):
            self.service(each)
        for each in self.of("PodDisruptionBudget"):
            name = each["metadata"]["name"]
            self.must(len(self.pods(each["spec"]["selector"]["matchLabels"])) == 1, f"PodDisruptionBudget {name} selects nothing")
        for each in self.of("HorizontalPodAutoscaler"):
            self.must(self.named("Deployment", each["spec"]["scaleTargetRef"]["name"]), f"{each['metadata']['name']} scales nothing")
        for each in self.of("NetworkPolicy"):
            self.policy(each)
        running = {each["metadata"]["name"].replace("-", "_") for each in self.of("Deployment")}
        self.must(running in ({"monolith"}, SERVICES | {"gateway"}), f"the services are {sorted(SERVICES)}, and {sorted(running)} run")
        return self.wrong

    def deployment(self, each):
        name, spec, pod = each["metadata"]["name"], each["spec"], each["spec"]["template"]["spec"]
        must = lambda holds, what: self.must(holds, f"Deployment {name}: {what}")
        must(selects(spec["selector"]["matchLabels"], labels(each)), "its selector does not select its pods")
        container, = pod["containers"]
        settings = dict(self.settings, **{one["name"]: one.get("value") for one in container.get("env", [])})
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        listens = {key: int(settings[key].rsplit(":")[-1]) for key in settings if key.endswith("__LISTEN")}
        must(sorted(ports.values()) == sorted(listens.values()), f"it listens on {listens}, and its ports are {ports}")
        port = int(settings["MESH__REGISTRY"].rsplit(":")[-1])
        must(ports["grpc"] == port == listens["MESH__LISTEN"], "others look for it at another port")

        service = name.replace("-", "_")
        mutual = settings["MESH__TLS__MODE"] == "mutual"
        for kind in ("startupProbe", "readinessProbe"):
            probe = container.get(kind, {})
            if mutual:
                must(probe.get("httpGet") == {"path": "/readyz", "port": "admin"} and "grpc" not in probe, f"its {kind} has no certificate")
                continue
            asked = probe.get("grpc", {})
            must(asked.get("port") == ports["grpc"], f"its {kind} asks another port than it listens on")
            if service in NOT_SERVICES:
                must("service" not in asked, f"its {kind} asks for one service of several")
            else:
                known = asked.get("service") in CONTRACTS and asked["service"].startswith(f"{service}.")
                must(known, f"its {kind} asks for {asked.get('service')}, which is no contract of it")
        must(container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"}, "its livenessProbe asks for more than life")

        # It includes drain_delay. Databases close and spans are sent within 2 s after it.
        limit = seconds(settings.get("MESH__DRAIN_LIMIT", setting("drain_limit")))
        grace = pod["terminationGracePeriodSeconds"]
        must(grace >= limit + 4, f"it is killed after {grace} s, and drains for {limit + 4:g} s")
        must("lifecycle" not in container, "drain_delay waits, not a hook")
        must(pod["securityContext"].get("runAsNonRoot") is True and pod["securityContext"].get("runAsUser"), "it may be root")
        must(container.get("securityContext") == HARDENED, f"its container is not {HARDENED}")
        must(not pod["automountServiceAccountToken"], "it has a token of Kubernetes")

        volumes = {one["name"]: one for one in pod.get("volumes", [])}
        must({one["name"] for one in container["volumeMounts"]} == set(volumes), "volumes and mounts differ")
        for one in container.get("envFrom", []):
            must(self.named("ConfigMap", one["configMapRef"]["name"]), "its settings are not there")
        secret = volumes["identity"]["secret"]
        must(secret == {"secretName": f"{name}-identity", "optional": True}, f"it has the certificate of {secret['secretName']}")
        owns = service == "monolith" or service in OWNERS
        must(owns == ("database" in volumes or "data" in volumes), f"that it {'owns' if owns else 'does not own'} data is not said")
        strategy, scaled = spec["strategy"], self.named("HorizontalPodAutoscaler", name)
        if "data" in volumes:
            claim = self.named("PersistentVolumeClaim", volumes["data"]["persistentVolumeClaim"]["claimName"])
            must(claim and claim["spec"]["accessModes"] == ["ReadWriteOncePod"], "its databases are not for one pod alone")
            must(spec.get("replicas") == 1 and strategy == {"type": "Recreate"} and not scaled, "two processes use one embedded database")
        else:
            must(strategy.get("rollingUpdate", {}).get("maxUnavailable") == 0, "a rollout takes pods away before others are there")
            must(scaled and "replicas" not in spec, "nothing scales it, or two do")
            must(self.named("PodDisruptionBudget", name), "nothing keeps its last pod")

    def service(self, each):
        name, spec = each["metadata"]["name"], each["spec"]
        pods = self.pods(spec["selector"])
        self.must(len(pods) == 1, f"Service {name} selects {len(pods)} Deployments")
        for pod in pods:
            ports = {one["name"]: one["containerPort"] for one in container_of(pod)["ports"]}
            for port in spec["ports"]:
                self.must(port["targetPort"] in ports, f"Service {name}: {port['targetPort']} is no port of its pods")
                if port["name"] == "grpc":
                    self.must(port["port"] == ports["grpc"], f"Service {name} has another port than its pods")
        is_headless = spec.get("clusterIP") == "None"
        self.must(is_headless != (name in NOT_SERVICES), f"Service {name}: callers of services balance, clients do not")

    def policy(self, each):
        name, spec = each["metadata"]["name"], each["spec"]
        pods = self.pods(spec["podSelector"].get("matchLabels"))
        self.must(pods, f"NetworkPolicy {name} selects nothing")
        for rule in spec["ingress"]:
            for source in rule.get("from", []):
                if "podSelector" in source:
                    self.must(self.pods(source["podSelector"]["matchLabels"]), f"NetworkPolicy {name} is for clients that are not there")
            for port in rule["ports"]:
                for pod in pods:
                    ports = {one["name"] for one in container_of(pod)["ports"]}
                    self.must(port["port"] in ports, f"NetworkPolicy {name}: {port['port']} is no port of {pod['metadata']['name']}")


def labels(deployment):
    return deployment["spec"]["template"]["metadata"].get("labels", {})


def container_of(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


# What is replaced, once, by what, and a word of what must be said of it.
SEEDED = [
    (r"terminationGracePeriodSeconds: \d+", "terminationGracePeriodSeconds: 11", "drains for"),
    (r"matchLabels:\n      app: (\w+)\n  strategy", r"matchLabels:\n      app: another\n  strategy", "does not select its pods"),
    (r"  selector:\n    app: \w+\n", "  selector:\n    app: another\n", "selects 0 Deployments"),
    (r"targetPort: \w+", "targetPort: gprc", "is no port of its pods"),
    (r"startupProbe:\n          failureThreshold: 600\n          grpc:\n            port: \d+", "startupProbe:\n          grpc:\n            port: 50052", "asks another port"),
    (r"containerPort: 50051", "containerPort: 50052", "and its ports are"),
    (r"dns://\{host\}:50051", "dns://{host}:50052", "look for it at another port"),
    (r"path: /healthz", "path: /readyz", "more than life"),
    (r"runAsNonRoot: true", "runAsNonRoot: false", "may be root"),
    (r"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "is not {"),
    (r"secretName: \w+-identity", "secretName: other-identity", "the certificate of other-identity"),
    (r"- port: admin", "- port: metrics", "metrics is no port of"),
    (r"kind: Deployment", "kind: DaemonSet", "run"),
]
OF_DATA = [
    (r"- ReadWriteOncePod", "- ReadWriteMany", "one pod alone"),
    (r"type: Recreate", "type: RollingUpdate", "two processes use one embedded database"),
    (r"replicas: 1", "replicas: 2", "two processes use one embedded database"),
]
OF_REPLICAS = [
    (r"maxUnavailable: 0", "maxUnavailable: 1", "takes pods away"),
    (r"(HorizontalPodAutoscaler(.|\n)*?name: )\w+", r"\1another", "nothing scales it"),
    (r"(PodDisruptionBudget(.|\n)*?name: )\w+", r"\1another", "nothing keeps its last pod"),
    (r"(PodDisruptionBudget(.|\n)*?app: )\w+", r"\1another", "selects nothing"),
]
OF_CONTRACTS = [
    (r"service: (\w+)\.v1\.\w+", r"service: \1.v1.NoService", "no contract of it"),
    (r"clusterIP: None", "clusterIP: 10.0.0.1", "callers of services balance"),
]


def main(paths):
    for path in paths:
        text = open(path).read()
        objects = Objects(text)
        wrong = objects.check()
        assert not wrong, f"{path}: " + "; ".join(wrong)
        seeded = SEEDED + (OF_DATA if "PersistentVolumeClaim" in text else OF_REPLICAS)
        if "clusterIP: None" in text and "mutual" not in text:
            seeded = seeded + OF_CONTRACTS
        if "MESH__TLS__MODE: mutual" in text:
            seeded = [seed for seed in seeded if "grpc:" not in seed[0]]
            seeded.append((r"path: /readyz", "path: /healthz", "has no certificate"))
        for wanted, instead, expected in seeded:
            mistaken, count = re.subn(wanted, instead, text, count=1)
            assert count == 1 and mistaken != text, f"{path} has no {wanted}: mend the seeds of this script"
            found = Objects(mistaken).check()
            said = next((one for one in found if expected in one), None)
            assert said, f"{path}: {instead!r} is taken: {found}"
            seed = " ".join(re.search(wanted, text).expand(instead).split())
            print(f"seeded: deploy/kubernetes, {path.split('/')[-1]}: {seed[-60:]}: {said}")
        print(f"{path.split('/')[-1]}: {len(objects.all)} objects fit, {len(seeded)} seeded mistakes found")


main(sys.argv[1:])
