// SPDX-License-Identifier: Apache-2.0
// The servers of a service: a table, which becomes a card a server where there is no room for it.

import { Keyed, arrange, element, setAttribute, setHidden, setText } from "./dom.js";
import { count, duration, rate } from "./format.js";

// Title, and whether it is a number.  The roles are said in full, for a table laid out as cards is none
// to a screen reader otherwise.
const COLUMNS = [
  ["Server", false],
  ["State", false],
  ["Weight", true],
  ["Active", true],
  ["Inactive", true],
  ["Conn/s", true],
  ["In pkt/s", true],
  ["Out pkt/s", true],
  ["In bit/s", true],
  ["Out bit/s", true],
  ["Check", false],
  ["For", true],
];

class ServerRow {
  #cells = COLUMNS.map(([title, isNumber]) =>
    element("td", { role: "cell", "data-label": title, class: isNumber ? "number" : null }),
  );
  #pool = element("span", { class: "tag" });
  #pill = element("span", { class: "pill" });
  #drained = element("span", { class: "drained" });
  #progress = element("progress", { max: 1 });
  #left = element("span", {});
  #most = 0; // flows at the start of the drain, as far as this page saw it
  #code = element("span", { class: "code" });
  #detail = element("span", { class: "detail" });

  constructor(address) {
    this.root = element("tr", { role: "row", "data-server": address }, ...this.#cells);
    const [server, state] = this.#cells;
    server.setAttribute("role", "rowheader");
    server.append(element("span", { class: "address" }, address), this.#pool);
    this.#drained.append(this.#left, this.#progress);
    state.append(this.#pill, this.#drained);
    this.#cells[10].append(this.#code, this.#detail);
  }

  update({ row, rates, state }, poolIsNews) {
    const cells = this.#cells;
    setText(this.#pool, row.pool);
    setHidden(this.#pool, !poolIsNews);
    setText(this.#pill, state.text);
    setAttribute(this.#pill, "class", `pill ${state.look}`);
    setAttribute(this.#pill, "title", state.meaning);
    this.#sayDrain(row.drain);
    const figures = [
      row.effective_weight === row.weight ? count(row.weight) : `${count(row.effective_weight)} of ${count(row.weight)}`,
      row.upper ? `${count(row.active)} of ${count(row.upper)}` : count(row.active),
      count(row.inactive),
      rate(rates.connections),
      rate(rates.packetsIn),
      rate(rates.packetsOut),
      rate(rates.bitsIn),
      rate(rates.bitsOut),
    ];
    figures.forEach((figure, index) => setText(cells[index + 2], figure));
    this.#sayCheck(row.check);
  }

  #sayCheck(check) {
    setText(this.#code, check === null ? "none" : check.code || "not yet");
    setText(this.#detail, check === null ? "" : ` ${check.detail}`);
    setText(this.#cells[11], check === null ? "–" : duration(check.since));
    if (check === null) return;
    const took = check.duration === null ? "" : `, ${(check.duration * 1000).toFixed(1)} ms`;
    setAttribute(
      this.#cells[10],
      "title",
      `${check.type}${took}; ${count(check.failures)} of ${count(check.checks)} failed, ${count(check.transitions)} changes of state; ${check.detail}`,
    );
  }

  #sayDrain(drain) {
    setHidden(this.#drained, drain === null);
    this.#most = drain === null ? 0 : Math.max(this.#most, drain.left);
    if (drain === null) return;
    const end = drain.deadline === null ? "" : `, ${duration(drain.deadline)}`;
    setText(this.#left, `${count(drain.left)} left${end}`);
    setAttribute(this.#progress, "value", String(this.#most ? 1 - drain.left / this.#most : 1));
    setAttribute(this.#progress, "aria-label", "drained");
    setAttribute(this.#drained, "title", `flows left, and until when; by ${drain.by}, for ${duration(drain.since)}`);
  }
}

export class ServerTable {
  #rows = new Keyed((key, address) => new ServerRow(address));
  #body = element("tbody", { role: "rowgroup" });

  constructor(service) {
    const heads = COLUMNS.map(([title, isNumber]) =>
      element("th", { role: "columnheader", scope: "col", class: isNumber ? "number" : null }, title),
    );
    this.root = element(
      "table",
      { role: "table", class: "servers" },
      element("caption", { class: "hidden" }, `Servers of ${service}`),
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads)),
      this.#body,
    );
  }

  update(servers, all) {
    const poolIsNews = new Set(all.map((server) => server.row.pool)).size > 1;
    arrange(
      this.#body,
      servers.map((server) => {
        const row = this.#rows.get(server.key, server.name);
        row.update(server, poolIsNews);
        return row.root;
      }),
    );
    this.#rows.keepOnly(new Set(all.map((server) => server.key)));
  }
}
