// The public API, and nothing else.

import { lang } from "./text.js";

/** An answer that is an error, in the person's language: `message` says what, `detail` what to do. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.title ?? String(status));
    this.status = status;
    this.detail = document.detail ?? "";
  }
}

async function ask(path, options = {}) {
  const headers = { Accept: "application/json", "Accept-Language": lang, ...options.headers };
  const answer = await fetch(`/api/v1${path}`, { ...options, headers, signal: AbortSignal.timeout(15_000) });
  const body = await answer.json();
  if (!answer.ok) throw new Problem(answer.status, body);
  return body;
}

const account = (number) => `/accounts/${encodeURIComponent(number)}`;

export const status = () => ask("/status");
export const accounts = (limit) => ask(`/accounts?limit=${limit}`);
export const card = (number) => ask(account(number));
export const days = (number, count) => ask(`${account(number)}/days?count=${count}`);
export const recharge = (number, payment) =>
  ask(`${account(number)}/recharges`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(payment),
  });
