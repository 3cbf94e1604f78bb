// The token of the reader: in memory while the page is open, and nowhere else.

let token = "";

// Takes a token as it was pasted, with or without its scheme.
export function set(text) {
  token = text.trim().replace(/^Bearer\s+/i, "");
}

// Whether requests have a token.
export const isSet = () => token !== "";

// The headers of a request, with the token.
export const withToken = (headers) => (token ? { ...headers, Authorization: `Bearer ${token}` } : headers);
