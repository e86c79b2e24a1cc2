// Money, energy, days and times as a person reads them: Latin digits, Indian grouping, the utility's zone.

import { lang } from "./text.js";

const zone = document.documentElement.dataset.zone;
const locale = `${lang}-IN-u-nu-latn`;
const longDay = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", timeZone: "UTC" });
const shortDay = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", timeZone: "UTC" });
const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone });
const zoneDay = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", timeZone: zone });

/** Whole numbers with Indian grouping: 12,34,567. */
export function count(number) {
  const digits = String(Math.abs(number));
  const head = digits.slice(0, -3).replace(/\B(?=(\d\d)+$)/g, ",");
  return (number < 0 ? "−" : "") + (head ? `${head},` : "") + digits.slice(-3);
}

/** Paise as ₹1,23,456.50, without passing through fractions. */
export function money({ paise }) {
  const magnitude = Math.abs(paise);
  const rupees = Math.trunc(magnitude / 100);
  return `${paise < 0 ? "−" : ""}₹${count(rupees)}.${String(magnitude % 100).padStart(2, "0")}`;
}

/** Paise as ₹1,23,456 where they are whole rupees. */
export function rupees(number) {
  return `₹${count(number)}`;
}

/** Watt-hours as units (kWh) with two decimals. */
export function units(energyWh) {
  const tens = Math.round(Math.abs(energyWh) / 10);
  return `${energyWh < 0 ? "−" : ""}${count(Math.trunc(tens / 100))}.${String(tens % 100).padStart(2, "0")}`;
}

/** A civil day, 2026-11-23, as "23 November". */
export function day(date) {
  return longDay.format(new Date(`${date}T00:00:00Z`));
}

/** The same, short, for axes. */
export function dayShort(date) {
  return shortDay.format(new Date(`${date}T00:00:00Z`));
}

/** An instant: the time of day, with its day where that is not today's. */
export function moment(instant, now) {
  const [at, reference] = [new Date(instant), new Date(now)];
  const time = clock.format(at);
  return zoneDay.format(at) === zoneDay.format(reference) ? time : `${zoneDay.format(at)}, ${time}`;
}
