// The schemas of the document: resolved, shown as text, and made into examples.

// Schemas within schemas are shown to this depth: a message may contain itself.
const DEPTH = 4;

// The schema that a `$ref` names.
export function resolve(document, schema) {
  const name = schema?.$ref?.replace("#/components/schemas/", "");
  return name ? document.components.schemas[name] : (schema ?? {});
}

// The type of a schema in a few words, such as `string (uuid)` or `list of string`.
export function typeOf(document, schema) {
  const found = resolve(document, schema);
  if (found.enum) return found.enum.join(" | ");
  if (found.type === "array") return `list of ${typeOf(document, found.items)}`;
  if (schema?.$ref) return schema.$ref.split("/").pop();
  const more = found.format ?? (found.contentEncoding && `bytes in ${found.contentEncoding}`);
  return `${found.type ?? "any"}${more ? ` (${more})` : ""}`;
}

// What limits the values of a schema, such as `1 to 200 characters`.
export function limitsOf(document, schema) {
  const found = resolve(document, schema);
  const range = (least, most, unit) => {
    if (least === undefined && most === undefined) return [];
    if (least === undefined) return [`at most ${most}${unit}`];
    return [most === undefined ? `at least ${least}${unit}` : `${least} to ${most}${unit}`];
  };
  return [
    ...range(found.minLength, found.maxLength, " characters"),
    ...range(found.minItems, found.maxItems, " items"),
    ...(found.format === "int32" ? [] : range(found.minimum, found.maximum, "")),
  ].join(", ");
}

// A request that fits the schema: required fields with a value, others if they are simple.
export function exampleOf(document, schema, depth = 0) {
  const found = resolve(document, schema);
  if (found.example !== undefined) return found.example;
  if (found.default !== undefined) return found.default;
  if (found.enum) return found.enum[1] ?? found.enum[0];
  switch (found.type) {
    case "object": {
      if (depth >= DEPTH) return {};
      const fields = Object.entries(found.properties ?? {}).filter(([, field]) => !resolve(document, field).readOnly);
      return Object.fromEntries(fields.map(([name, field]) => [name, valueOf(document, name, field, depth + 1)]));
    }
    case "array":
      return depth >= DEPTH ? [] : [exampleOf(document, found.items, depth + 1)];
    case "integer":
    case "number":
      return Math.max(found.minimum ?? 0, 0);
    case "boolean":
      return false;
    default:
      return textOf(found);
  }
}

function valueOf(document, name, field, depth) {
  return /^request_?id$/i.test(name) ? crypto.randomUUID() : exampleOf(document, field, depth);
}

function textOf(schema) {
  if (schema.format === "uuid") return crypto.randomUUID();
  if (schema.format === "date-time") return new Date(0).toISOString();
  if (schema.format === "int64") return "0";
  if (schema.pattern?.endsWith("s$")) return "15s";
  return "x".repeat(schema.minLength ?? 0);
}
