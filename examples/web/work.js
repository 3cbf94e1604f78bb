// An operation that goes on: what is done of it, its steps, and how it ended.

import { element, keep, say } from "./element.js";

const STATES = {
  STEP_STATE_RUNNING: "runs",
  STEP_STATE_DONE: "done",
  STEP_STATE_FAILED: "failed",
  STEP_STATE_UNDONE: "undone",
};

// A view of an operation of `title`, which is announced if it is live. `show` takes the messages of tv.v1/FollowOperation.
export function view(title, isLive) {
  const text = element("p", { role: isLive ? "status" : null, textContent: "Waiting for its turn …" });
  const bar = element("progress", { max: 100, value: 0, ariaLabel: `Progress of ${title}` });
  const percent = element("span", { className: "percent", textContent: "0 %" });
  const steps = element("ol", { className: "steps", ariaLabel: "Steps" });
  const heading = element("h3", { textContent: title });
  const part = element("div", { className: "bar" }, bar, percent);
  const node = element("div", { className: "operation" }, heading, part, text, steps);
  const show = (message) => {
    // A rental shows its steps, and no part.
    part.hidden = message.steps.length > 0;
    bar.value = message.percent;
    percent.textContent = `${message.percent} %`;
    say(text, message.reason ? `${message.text} (${message.reason})` : message.text);
    keep(steps, message.steps, (step) => step.name, () => element("li"), (child, step) => {
      const state = STATES[step.state] ?? "runs";
      child.className = state;
      say(child, `${step.name}: ${state}`);
    });
    node.classList.toggle("succeeded", message.succeeded);
    node.classList.toggle("failed", message.done && !message.succeeded);
  };
  const fail = (error) => {
    say(text, error.message);
    node.classList.add("failed");
  };
  return { node, show, fail };
}
