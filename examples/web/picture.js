// Pictures of titles: they stay while artwork is away, and are read again once they were rendered anew.

// How often each title was rendered while this page is open.
const renderings = new Map();
// What was read after a rendering, by path: the browser itself keeps the old picture for a minute.
const fresh = new Map();

// Notes that a title has new pictures.
export const renew = (titleId) => renderings.set(titleId, (renderings.get(titleId) ?? 0) + 1);

// Shows the picture of a path in an img element. Without a path there is none.
export function show(img, path) {
  img.dataset.path = path;
  const rendering = renderings.get(path.split("/")[3]) ?? 0;
  if (rendering > (fresh.get(path)?.rendering ?? 0)) {
    read(path, rendering).then(() => img.dataset.path === path && show(img, path));
    return;
  }
  const url = fresh.get(path)?.url ?? path;
  img.hidden = url === "";
  if (img.getAttribute("src") === url) return;
  if (url === "") img.removeAttribute("src");
  else img.src = url;
  // The next refresh tries again.
  img.onerror = () => {
    img.removeAttribute("src");
    img.hidden = true;
  };
}

// Reads a picture again. Until it is there, the old one is shown.
async function read(path, rendering) {
  const old = fresh.get(path);
  fresh.set(path, { rendering, url: old?.url ?? path });
  try {
    const response = await fetch(path, { cache: "reload" });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    fresh.set(path, { rendering, url: URL.createObjectURL(await response.blob()) });
    if (old) URL.revokeObjectURL(old.url);
  } catch {
    // The next refresh tries again.
    if (old) fresh.set(path, old);
    else fresh.delete(path);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

// Takes pictures over from the last answer where artwork was unreachable.
export function keepKnown(last, items, unreachable) {
  if (!unreachable.includes("services/artwork")) return;
  const known = new Map(last.map((item) => [item.titleId, item.pictureUrl]));
  for (const item of items) item.pictureUrl ||= known.get(item.titleId) ?? "";
}
