// Server-sent events by fetch: EventSource sends no Authorization, and a token is in no address.

// The events of a body, each with a type and its data, until the body ends or breaks off.
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    yield* parts.map(parse).filter(({ data }) => data);
  }
}

function parse(text) {
  const lines = text.split("\n").map((line) => line.split(/: ?(.*)/, 2));
  const of = (name) => lines.filter(([found]) => found === name).map(([, value]) => value);
  return { type: of("event").at(-1) ?? "message", data: of("data").join("\n") };
}
