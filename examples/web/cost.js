// What the answers took: bytes and milliseconds, as the browser measured them.

// By path: the bytes of the body as they came, and as they are without compression, and the time.
const measured = new Map();
const listeners = [];

new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    // Failures do not count. An answer that was known counts as it came first.
    if (entry.encodedBodySize === 0 || entry.responseStatus >= 400) continue;
    const { encodedBodySize: bytes, decodedBodySize: plain, duration } = entry;
    measured.set(new URL(entry.name).pathname, { bytes, plain, duration });
  }
  for (const listener of listeners) listener();
}).observe({ type: "resource", buffered: true });

// Shows what the answer of `path` took in `node`, and the pictures of `paths()`.
export function show(node, path, paths) {
  listeners.push(() => {
    const answer = measured.get(path);
    if (!answer) return;
    const pictures = paths().map((path) => measured.get(path)?.bytes ?? 0).reduce((sum, bytes) => sum + bytes, 0);
    const { bytes, plain, duration } = answer;
    const packed = bytes < plain ? `, ${size(bytes)} compressed,` : "";
    const and = pictures > 0 ? `, and ${size(pictures)} of pictures` : "";
    node.textContent = `${size(plain)}${packed} in ${Math.round(duration)} ms${and}`;
  });
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1_000_000 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
