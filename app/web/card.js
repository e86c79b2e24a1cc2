// The consumer's card: last known figures at once, then fresh ones, then kept fresh.

import * as api from "./api.js";
import { Chart } from "./chart.js";
import { day, moment, money, units } from "./format.js";
import { Recharge } from "./recharge.js";
import { lang, loadTexts, t } from "./text.js";

const CARD_EVERY_MS = 5_000;
const DAYS_EVERY_MS = 60_000;
const SHOWN_DAYS = 30;
const LOW_DAYS = 3;
const LISTED_ACCOUNTS = 200;

const SIGNS = {
  good: "M9.5 17.5 4 12l2-2 3.5 3.5L18 5l2 2z",
  low: "M12 3 2 21h20zm-1 7h2v5h-2zm0 7h2v2h-2z",
  due: "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zm-1 5h2v7h-2zm0 9h2v2h-2z",
  unknown: "M11 6h2v6l4 2-1 2-5-3z",
};

const $ = (id) => document.getElementById(id);
const say = (id, text) => {
  const element = $(id);
  element.classList.remove("skeleton");
  if (element.textContent !== text) element.textContent = text;
};

class Page {
  constructor(number) {
    this.number = number;
    this.card = null;
    this.days = [];
    this.daysAt = 0;
    this.chart = new Chart(() => this.card?.as_of);
    this.recharge = new Recharge(number, () => this.refresh(true));
  }

  /** Shows what was known when this page was last open. */
  recall() {
    const kept = read(`urja.card.${this.number}`);
    if (!kept) return;
    this.card = kept.card;
    this.days = kept.days;
    this.show();
  }

  async refresh(all) {
    try {
      const wantsDays = all || Date.now() - this.daysAt > DAYS_EVERY_MS;
      const [card, list] = await Promise.all([
        api.card(this.number),
        wantsDays ? api.days(this.number, SHOWN_DAYS) : null,
      ]);
      this.card = card;
      if (list) [this.days, this.daysAt] = [list.days, Date.now()];
      keep(`urja.card.${this.number}`, { card, days: this.days });
      notice("");
      this.show();
    } catch (error) {
      notice(failure(error, this.card));
    }
  }

  show() {
    showMoney(this.card);
    showDay("today", this.card.today, this.card);
    showDay("yesterday", this.card.yesterday, this.card);
    this.recharge.show(this.card);
    this.chart.show(thirty(this.days, this.card), this.card);
  }
}

function showMoney(card) {
  const due = card.balance.paise < 0;
  const days = card.lasts?.days;
  const state = card.balance.paise <= 0 ? "due" : days === undefined ? "unknown" : days <= LOW_DAYS ? "low" : "good";
  const section = $("money");
  section.dataset.state = state;
  section.removeAttribute("aria-busy");
  $("sign").setAttribute("d", SIGNS[state]);
  say("state", { good: t("state-good"), low: t("state-low"), due: t("state-due"), unknown: t("balance") }[state]);
  say("lasts", lasts(card));
  say("balance-word", due ? t("balance-due") : t("balance"));
  say("balance", money(card.balance));
  say("as-of", t("as-of", { time: moment(card.as_of, card.as_of) }));
  say("heard", ` · ${card.heard_at ? t("heard", { time: moment(card.heard_at, card.as_of) }) : t("heard-never")}`);
  say("how", card.lasts ? t("lasts-how", { per_day: money(card.lasts.per_day), days: card.lasts.over_days }) : "");
  const parts = { booked: money(card.booked), accrued: money(card.accrued) };
  const until = card.booked_until;
  say("parts", until ? t("balance-parts-until", { ...parts, day: day(until) }) : t("balance-parts", parts));
}

function lasts(card) {
  if (card.balance.paise <= 0) return t("lasts-nothing");
  if (!card.lasts) return t("lasts-unknown");
  if (card.lasts.days < 1) return t("lasts-hours");
  return card.lasts.days > 365 ? t("lasts-year") : t("lasts-days", { days: card.lasts.days });
}

function showDay(name, usage, card) {
  if (!usage) {
    say(`${name}-units`, "—");
    say(`${name}-rupees`, "—");
    say(`${name}-note`, t("day-waiting"));
    return;
  }
  say(`${name}-units`, t("units", { units: units(usage.energy_wh) }));
  say(`${name}-rupees`, money(usage.charge));
  const time = card.complete_until ? moment(card.complete_until, card.as_of) : "—";
  const open = name === "today" ? t("today-until", { time }) : t("day-open", { time });
  say(`${name}-note`, usage.closed ? t("day-booked") : open);
}

/** Exactly 30 days up to today, with holes where nothing is known. */
function thirty(days, card) {
  const known = new Map(days.map((usage) => [usage.date, usage]));
  for (const usage of [card.today, card.yesterday]) {
    if (usage) known.set(usage.date, { ...known.get(usage.date), ...usage });
  }
  const last = new Date(`${civilDay(card.as_of)}T00:00:00Z`);
  return Array.from({ length: SHOWN_DAYS }, (_, index) => {
    const date = new Date(last.getTime() - (SHOWN_DAYS - 1 - index) * 86_400_000).toISOString().slice(0, 10);
    return known.get(date) ?? { date, absent: true };
  });
}

/** The civil day of an instant in the utility's zone, as 2026-11-23. */
function civilDay(instant) {
  const zone = document.documentElement.dataset.zone;
  return new Intl.DateTimeFormat("en-CA", { timeZone: zone, dateStyle: "short" }).format(new Date(instant));
}

function failure(error, card) {
  if (error instanceof api.Problem) return `${error.message}. ${error.detail}`;
  return card ? t("offline", { time: moment(card.as_of, new Date()) }) : t("no-answer");
}

function notice(text) {
  const element = $("notice");
  element.hidden = !text;
  element.textContent = text;
}

function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // A full or forbidden store only costs the figures shown before the first answer.
  }
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

async function chosenAccount() {
  const wanted = new URLSearchParams(location.search).get("account");
  const select = $("account");
  const { accounts } = await api.accounts(LISTED_ACCOUNTS);
  for (const entry of accounts) {
    const option = document.createElement("option");
    option.value = entry.account_number;
    option.textContent = [entry.account_number, entry.meter_serial].filter(Boolean).join(" · ");
    select.append(option);
  }
  const number = wanted ?? accounts[0]?.account_number;
  select.value = number ?? "";
  select.addEventListener("change", () => {
    location.search = new URLSearchParams({ account: select.value });
  });
  return number;
}

function languageLinks() {
  for (const link of document.querySelectorAll(".languages a")) {
    const query = new URLSearchParams(location.search);
    query.set("lang", link.lang);
    link.href = `?${query}`;
    if (link.lang === lang) link.setAttribute("aria-current", "true");
  }
}

async function start() {
  languageLinks();
  await loadTexts();
  const number = await chosenAccount();
  if (!number) {
    notice(t("account-none"));
    return;
  }
  const page = new Page(number);
  page.recall();
  await page.refresh(true);
  page.recharge.resume();
  setInterval(() => document.hidden || page.refresh(false), CARD_EVERY_MS);
  document.addEventListener("visibilitychange", () => document.hidden || page.refresh(true));
}

/** Until the first answers are there, tries again. */
async function begin() {
  try {
    await start();
  } catch (error) {
    notice(failure(error, null));
    setTimeout(begin, CARD_EVERY_MS);
  }
}

begin();
