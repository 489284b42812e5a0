// SPDX-License-Identifier: Apache-2.0
// Beside the services: how full the local ports are, and why packets went no further.

import { Keyed, arrange, element, setAttribute, setHidden, setText } from "./dom.js";
import { count, percent, rate } from "./format.js";

const PAIRS_SHOWN = 6;
const NEARLY = 0.8; // full
const FULL = 0.95;

class PairRow {
  #name = element("span", { class: "address" });
  #value = element("span", { class: "number" });
  #bar = element("meter", { min: 0, max: 1, high: NEARLY, optimum: 0 });

  constructor() {
    this.root = element("li", {}, this.#name, this.#value, this.#bar);
  }

  update(row, part) {
    setText(this.#name, `${row.local} → ${row.server} ${row.protocol}`);
    setText(this.#value, `${percent(part)}`);
    setAttribute(this.#bar, "value", String(part));
    setAttribute(this.#bar, "aria-label", `local ports of ${row.local} towards ${row.server}`);
    setAttribute(this.root, "class", part >= FULL ? "bad" : part >= NEARLY ? "warn" : null);
    setAttribute(this.root, "title", `${count(row.in_use)} in use and ${count(row.resting)} resting, of ${count(row.capacity)}`);
  }
}

// A pair is a local address and a server: each has all ports for itself, so the fullest decides.
export class Ports {
  #rows = new Keyed(() => new PairRow());
  #list = element("ol", { class: "pairs" });
  #note = element("p", { class: "quiet" });

  constructor() {
    document.getElementById("ports").append(this.#note, this.#list);
  }

  update(ports) {
    const full = ports
      .map((row) => ({ row, part: row.capacity ? (row.in_use + row.resting) / row.capacity : 1 }))
      .sort((one, two) => two.part - one.part);
    const shown = full.slice(0, PAIRS_SHOWN);
    setText(
      this.#note,
      full.length ? `The fullest of ${count(full.length)} pairs of local address and server, resting ports included:` : "None yet.",
    );
    const keyOf = (row) => `${row.protocol} ${row.local} ${row.server}`;
    arrange(
      this.#list,
      shown.map(({ row, part }) => {
        const view = this.#rows.get(keyOf(row));
        view.update(row, part);
        return view.root;
      }),
    );
    this.#rows.keepOnly(new Set(shown.map(({ row }) => keyOf(row))));
  }
}

class ReasonRow {
  #count = element("td", { class: "number" });
  #rate = element("td", { class: "number" });
  #before = null; // {value, now}

  constructor(name, meaning) {
    const head = element("th", { scope: "row" }, name, element("span", { class: "quiet meaning" }, meaning));
    this.root = element("tr", { "data-reason": name }, head, this.#count, this.#rate);
  }

  update(value, now) {
    const before = this.#before;
    if (now !== before?.now) {
      const isNew = before === null || now < before.now || value < before.value;
      setText(this.#rate, rate(isNew ? null : (value - before.value) / (now - before.now)));
      this.#before = { value, now };
    }
    setText(this.#count, count(value));
  }
}

// Counters beside the reasons that count lost packets too.
const LOSSES = {
  queue_dropped: "dropped by the kernel: the queue was full",
  user_dropped: "dropped by the kernel: the socket of the queue was full",
  send_failures: "verdicts or answers that could not be sent",
};

export class Drops {
  #rows = new Keyed((name, meaning) => new ReasonRow(name, meaning));
  #body = element("tbody");
  #table = element(
    "table",
    { class: "plain" },
    element("caption", { class: "hidden" }, "Packets dropped or refused, by reason"),
    element("thead", {}, element("tr", {}, ...["Reason", "Packets", "/s"].map((title, index) =>
      element("th", { scope: "col", class: index ? "number" : null }, title),
    ))),
    this.#body,
  );
  #none = element("p", { class: "quiet" }, "Nothing so far.");

  constructor() {
    document.getElementById("drops").append(this.#none, this.#table);
  }

  update(stats, now) {
    const rows = Object.entries(stats.reasons)
      .filter(([, reason]) => reason.count && (reason.verdict === "drop" || reason.verdict === "reply"))
      .map(([name, reason]) => ({ name, value: reason.count, meaning: reason.meaning }));
    for (const [name, meaning] of Object.entries(LOSSES)) {
      if (stats[name]) rows.push({ name, value: stats[name], meaning });
    }
    rows.sort((one, two) => two.value - one.value);
    setHidden(this.#none, rows.length > 0);
    setHidden(this.#table, rows.length === 0);
    arrange(
      this.#body,
      rows.map(({ name, value, meaning }) => {
        const row = this.#rows.get(name, meaning);
        row.update(value, now);
        return row.root;
      }),
    );
  }
}
