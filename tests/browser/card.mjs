// The consumer's card in a real browser: card.mjs BASE_URL SCREENSHOT_DIR
// Prints one JSON object with what a person would see; exits 1 on the first thing that is not as promised.
import { chromium } from "playwright-core";

const [base, shots] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

function must(what, holds) {
  if (!holds) {
    console.error(`not so: ${what}`);
    process.exit(1);
  }
}

const browser = await chromium.launch({ executablePath, args: flags });
const seen = {};
try {
  for (const [name, viewport] of [["phone", { width: 360, height: 800 }], ["desktop", { width: 1280, height: 800 }]]) {
    for (const locale of ["en-IN", "hi-IN"]) {
      const context = await browser.newContext({ viewport, locale });
      const page = await context.newPage();
      const faults = [];
      page.on("pageerror", (error) => faults.push(String(error)));
      page.on("console", (line) => line.type() === "error" && faults.push(line.text()));
      await page.goto(`${base}/card`);
      const balance = page.getByTestId("balance");
      await page.waitForFunction(() => /₹/.test(document.querySelector('[data-testid="balance"]')?.textContent ?? ""));
      const lang = await page.evaluate(() => document.documentElement.lang);
      must(`the page speaks ${locale}`, locale.startsWith(lang));
      must("30 bars are shown", (await page.getByTestId("day").count()) === 30);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      must(`nothing is cut off at ${viewport.width} px`, wide <= 0);
      await page.screenshot({ path: `${shots}/card-${name}-${locale}.png`, fullPage: true });
      seen[`${name}-${locale}`] = (await balance.textContent()).trim();
      must(`no script faults: ${faults.join("; ")}`, faults.length === 0);
      await context.close();
    }
  }
  const page = await (await browser.newContext({ viewport: { width: 360, height: 800 }, locale: "en-IN" })).newPage();
  await page.goto(`${base}/card`);
  await page.waitForFunction(() => /₹/.test(document.querySelector('[data-testid="balance"]')?.textContent ?? ""));
  const before = (await page.getByTestId("balance").textContent()).trim();
  await page.getByTestId("amount").fill("500");
  const paidAt = Date.now();
  await page.getByTestId("pay").click();
  await page.waitForFunction((text) => document.querySelector('[data-testid="balance"]').textContent.trim() !== text, before, { timeout: 10_000 });
  seen.recharge_ms = Date.now() - paidAt;
  seen.before = before;
  seen.after = (await page.getByTestId("balance").textContent()).trim();
  await page.goto(`${base}/`);
  await page.waitForFunction(() => document.body.innerText.length > 200);
  await page.screenshot({ path: `${shots}/status.png`, fullPage: true });
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
