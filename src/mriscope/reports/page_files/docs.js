"use strict";
// Shows openapi.json; no other host is asked for anything.
(async () => {
  const place = document.getElementById("operations");

  function element(tag, text, children = []) {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    made.append(...children);
    return made;
  }

  function kindOf(schema) {
    if (schema.enum) return schema.enum.join(", ");
    if (schema.anyOf) return schema.anyOf.map(kindOf).join(" or ");
    if (schema.items) return `list of: ${kindOf(schema.items)}`;
    return schema.$ref ? schema.$ref.split("/").at(-1) : schema.format ?? schema.type ?? "";
  }

  function table(heads, rows) {
    const headed = heads.map((text) => Object.assign(element("th", text), { scope: "col" }));
    const body = rows.map((cells) => element("tr", "", cells.map((text) => element("td", text))));
    return element("table", "", [element("thead", "", [element("tr", "", headed)]), element("tbody", "", body)]);
  }

  function describe(path, verb, one) {
    const parts = [element("h2", `${verb.toUpperCase()} ${path}`), element("p", one.description)];
    const parameters = (one.parameters ?? []).map(({ name, schema, description }) =>
      [name, kindOf(schema), String(schema.default ?? ""), description ?? ""]);
    if (one.requestBody) parameters.push(["file", "multipart/form-data", "", "The file, with its name."]);
    if (parameters.length) parts.push(table(["takes", "values", "default", "meaning"], parameters));
    const answers = Object.entries(one.responses).map(([status, answer]) =>
      [status, Object.entries(answer.content ?? {}).map(([kind, { schema }]) => `${kind} ${kindOf(schema ?? {})}`).join("; ")]);
    parts.push(table(["answers", "with"], answers));
    return element("section", "", parts);
  }

  const { paths } = await (await fetch("openapi.json")).json();
  for (const [path, verbs] of Object.entries(paths))
    for (const [verb, one] of Object.entries(verbs)) place.append(describe(path, verb, one));
})();
