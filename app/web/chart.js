// Thirty days as bars: tap, drag or step for a day's value; a table with the same figures under it.

import { count, day, dayShort, moment, money, units } from "./format.js";
import { t } from "./text.js";

const HEIGHT = 168;
const TOP = 16;
const BOTTOM = 24;
const GAP = 2;
// Room for the labels of the scale.
const LEFT = 32;

const $ = (id) => document.getElementById(id);

function svg(name, attributes, children = []) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export class Chart {
  constructor(now) {
    this.now = now;
    this.days = [];
    this.chosen = null;
    this.inRupees = false;
    this.box = $("chart");
    $("show-units").addEventListener("click", () => this.measure(false));
    $("show-rupees").addEventListener("click", () => this.measure(true));
    $("previous").addEventListener("click", () => this.choose(this.chosen - 1));
    $("next").addEventListener("click", () => this.choose(this.chosen + 1));
    const point = (event) => this.choose(Math.floor((event.clientX - this.left() - LEFT) / this.step()));
    this.box.addEventListener("pointerdown", point);
    this.box.addEventListener("pointermove", (event) => event.buttons && point(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  left = () => this.box.getBoundingClientRect().left;
  width = () => this.box.clientWidth;
  step = () => (this.width() - LEFT) / this.days.length;
  value = (usage) => (usage.absent ? 0 : this.inRupees ? usage.charge.paise : usage.energy_wh);

  show(days, card) {
    const key = JSON.stringify(days);
    if (key === this.key) return;
    this.key = key;
    this.days = days;
    this.chosen ??= days.length - 1;
    const known = days.filter((usage) => !usage.absent);
    const sum = (of) => known.reduce((total, usage) => total + of(usage), 0);
    const figures = { units: units(sum((usage) => usage.energy_wh)), rupees: money({ paise: sum((usage) => usage.charge.paise) }) };
    $("usage-sum").textContent = t("usage-sum", { ...figures, days: known.length });
    const until = card.complete_until;
    $("usage-until").textContent = until ? ` · ${t("usage-until", { time: moment(until, card.as_of) })}` : "";
    this.label = t("usage-chart", figures);
    this.rows();
    this.draw();
  }

  measure(inRupees) {
    this.inRupees = inRupees;
    $("show-units").setAttribute("aria-pressed", String(!inRupees));
    $("show-rupees").setAttribute("aria-pressed", String(inRupees));
    this.draw();
  }

  choose(index) {
    this.chosen = Math.min(Math.max(index, 0), this.days.length - 1);
    this.draw();
  }

  draw() {
    if (this.days.length === 0 || this.width() === 0) return;
    const highest = scale(Math.max(...this.days.map(this.value)), this.inRupees);
    const step = this.step();
    const room = HEIGHT - TOP - BOTTOM;
    const bars = this.days.map((usage, index) => {
      const height = usage.absent ? room : Math.max(Math.round((Math.max(this.value(usage), 0) / highest) * room), 1);
      const x = LEFT + index * step + GAP / 2;
      const bar = { x, y: TOP + room - height, width: Math.max(step - GAP, 1), height, rx: 2 };
      const kind = usage.absent ? "absent" : usage.closed ? "closed" : "open";
      const chosen = index === this.chosen ? " chosen" : "";
      return svg("g", { class: `day ${kind}${chosen}`, "data-testid": "day" }, [svg("rect", bar)]);
    });
    this.box.replaceChildren(
      svg("svg", { width: this.width(), height: HEIGHT, role: "img", "aria-label": this.label }, [
        svg("defs", {}, [hatch()]),
        ...this.grid(highest, room),
        ...bars,
        ...this.axis(step),
      ]),
    );
    this.tell();
  }

  grid(highest, room) {
    return [0, 0.5, 1].flatMap((share) => {
      const y = TOP + room - share * room;
      const line = svg("line", { class: "grid", x1: LEFT, x2: this.width(), y1: y, y2: y });
      if (share === 0) return [line];
      const label = svg("text", { class: "axis", x: LEFT - 6, y: y + 4, "text-anchor": "end" });
      label.textContent = this.inRupees ? `₹${count((highest * share) / 100)}` : trim(highest * share);
      return [line, label];
    });
  }

  axis(step) {
    const last = this.days.length - 1;
    return [[0, "start"], [Math.floor(last / 2), "middle"], [last, "end"]].map(([index, anchor]) => {
      const x = anchor === "start" ? LEFT : anchor === "end" ? this.width() : LEFT + (index + 0.5) * step;
      const label = svg("text", { class: "axis", x, y: HEIGHT - 6, "text-anchor": anchor });
      label.textContent = dayShort(this.days[index].date);
      return label;
    });
  }

  tell() {
    const usage = this.days[this.chosen];
    $("chosen").textContent = words(usage, this.chosen === this.days.length - 1);
    $("previous").disabled = this.chosen === 0;
    $("next").disabled = this.chosen === this.days.length - 1;
  }

  rows() {
    const rows = this.days.toReversed().map((usage) => {
      const row = document.createElement("tr");
      const cells = usage.absent
        ? ["—", "—", t("day-waiting")]
        : [units(usage.energy_wh), money(usage.charge), state(usage)];
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = day(usage.date);
      row.append(head);
      cells.forEach((text, index) => {
        const cell = document.createElement("td");
        cell.textContent = text;
        if (index < 2) cell.className = "number";
        row.append(cell);
      });
      return row;
    });
    $("usage-rows").replaceChildren(...rows);
  }
}

function words(usage, isToday) {
  if (usage.absent) return t("usage-day-none", { day: day(usage.date) });
  const figures = { day: day(usage.date), units: units(usage.energy_wh), rupees: money(usage.charge) };
  const line = isToday ? t("usage-day-so-far", figures) : t("usage-day", figures);
  return usage.intervals_missing ? `${line} (${t("usage-missing", { count: usage.intervals_missing })})` : line;
}

function state(usage) {
  const word = usage.closed ? t("state-booked") : t("state-open");
  return usage.intervals_missing ? `${word}, ${t("usage-missing", { count: usage.intervals_missing })}` : word;
}

/** The next round number: 1, 2 or 5 with zeros, in kWh or rupees, so that half of it is round too. */
function scale(highest, inRupees) {
  const unit = inRupees ? 100 : 1000;
  const power = 10 ** Math.floor(Math.log10(Math.max(highest / unit, 1)));
  const round = [1, 2, 4, 6, 8, 10].find((step) => step * power * unit >= highest) ?? 10;
  return round * power * unit;
}

function trim(energyWh) {
  return units(energyWh).replace(/\.?0+$/, "");
}

function hatch() {
  return svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, [
    svg("line", { class: "hatch", x1: 0, y1: 0, x2: 0, y2: 6 }),
  ]);
}
