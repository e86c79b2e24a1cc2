// Texts of the page's language, and their variables. The catalogue is JSON made of the Fluent files.

export const lang = document.documentElement.lang;

const plurals = new Intl.PluralRules(lang);
let catalogue = {};

export async function loadTexts() {
  const answer = await fetch(`/assets/strings.${lang}.json`);
  catalogue = await answer.json();
}

export function t(id, variables = {}) {
  return id in catalogue ? form(catalogue[id], variables) : id;
}

function form(pattern, variables) {
  if (typeof pattern === "string") return pattern;
  return pattern.map((part) => piece(part, variables)).join("");
}

function piece(part, variables) {
  if (typeof part === "string") return part;
  if ("var" in part) return String(variables[part.var]);
  const value = variables[part.select];
  const exact = part.cases[String(value)];
  const kind = typeof value === "number" ? part.cases[plurals.select(value)] : undefined;
  return form(exact ?? kind ?? part.cases[part.default], variables);
}
