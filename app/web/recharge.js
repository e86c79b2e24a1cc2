// The recharge form. The page makes the payment's id and keeps it until there is an answer, so sending again is safe.

import * as api from "./api.js";
import { moment, money, rupees } from "./format.js";
import { t } from "./text.js";

const CHIPS = [200, 500, 1000, 2000];
const PRESET = 500;

const $ = (id) => document.getElementById(id);

export class Recharge {
  constructor(number, done) {
    this.number = number;
    this.done = done;
    this.key = `urja.pending.${number}`;
    this.pending = read(this.key);
    this.chips = CHIPS.map((amount) => this.chip(amount));
    $("chips").replaceChildren(...this.chips.map(({ button }) => button));
    $("amount").addEventListener("input", () => this.amount());
    $("recharge-check").addEventListener("click", () => this.send(this.pending));
    $("recharge-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const amount = Number($("amount").value.trim());
      this.send({ payment_id: paymentId(), amount_paise: Math.round(amount * 100) || 0 });
    });
    this.choose(PRESET);
  }

  chip(amount) {
    const button = document.createElement("button");
    button.type = "button";
    const [head, foot] = [document.createElement("span"), document.createElement("small")];
    head.textContent = rupees(amount);
    button.append(head, foot);
    button.addEventListener("click", () => this.choose(amount));
    return { amount, button, foot };
  }

  /** How long each amount lasts, at what a day costs now. */
  show(card) {
    for (const { amount, foot } of this.chips) {
      const days = card.lasts ? Math.floor((amount * 100) / card.lasts.per_day.paise) : 0;
      foot.textContent = days > 0 ? t("recharge-chip-days", { days }) : "";
    }
  }

  choose(amount) {
    $("amount").value = String(amount);
    this.amount();
  }

  amount() {
    const amount = Number($("amount").value.trim());
    for (const chip of this.chips) chip.button.setAttribute("aria-pressed", String(chip.amount === amount));
    const whole = Number.isInteger(amount) && amount > 0;
    $("pay").textContent = whole ? t("recharge-pay", { amount: rupees(amount) }) : t("recharge-pay-none");
    $("amount").removeAttribute("aria-invalid");
  }

  /** Asks for what was sent before and had no answer. */
  resume() {
    if (this.pending) this.wait();
    this.busy(false);
  }

  async send(payment) {
    this.remember(payment);
    this.busy(true);
    this.tell("", t("recharge-sending"));
    try {
      const receipt = await api.recharge(this.number, payment);
      this.remember(null);
      this.receipt(receipt);
      await this.done();
    } catch (error) {
      this.failed(error);
    }
    this.busy(false);
  }

  receipt(receipt) {
    const figures = {
      amount: money(receipt.amount),
      balance: money(receipt.balance),
      time: moment(receipt.as_of, receipt.as_of),
    };
    this.tell("good", `✓ ${t("recharge-done", figures)} ${t("recharge-reference", { id: receipt.payment_id })}`);
    // The answer holds the new balance: nobody waits for the rest of the card to see it.
    $("balance").textContent = figures.balance;
    $("recharge-check").hidden = true;
  }

  /** Only an answer that refuses ends the wait: without one the money may be on its way. */
  failed(error) {
    const refused = error instanceof api.Problem && error.status < 500;
    if (!refused) {
      this.wait();
      return;
    }
    this.remember(null);
    $("recharge-check").hidden = true;
    if (error.status === 422) $("amount").setAttribute("aria-invalid", "true");
    this.tell("bad", `✗ ${error.message}. ${error.detail}`);
  }

  wait() {
    this.tell("wait", t("recharge-pending", { amount: money({ paise: this.pending.amount_paise }) }));
    $("recharge-check").hidden = false;
  }

  /** While a payment has no answer, no other one is begun. */
  busy(is) {
    $("pay").disabled = is || this.pending !== null;
    $("recharge-check").disabled = is;
  }

  tell(kind, text) {
    $("recharge-result").dataset.kind = kind;
    $("recharge-result").textContent = text;
  }

  remember(payment) {
    this.pending = payment;
    keep(this.key, payment);
  }
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function keep(key, value) {
  try {
    if (value) localStorage.setItem(key, JSON.stringify(value));
    else localStorage.removeItem(key);
  } catch {
    // Without a store the id lives as long as the request; the server still knows it.
  }
}

/** A random UUID (version 4); works without a secure context too. */
function paymentId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
