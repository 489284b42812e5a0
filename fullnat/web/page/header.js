// SPDX-License-Identifier: Apache-2.0
// The head of the page: which instance this is, how it is, and what it does in all.

import { element, setHidden, setText } from "./dom.js";
import { bits, clock, count, day, duration, rate, tick } from "./format.js";
import { isUp } from "./states.js";

const byId = (id) => document.getElementById(id);

class Tile {
  #value = element("dd");
  #note = element("dd", { class: "quiet" });

  constructor(title) {
    this.root = element("div", { class: "tile" }, element("dt", {}, title), this.#value, this.#note);
  }

  say(value, note, look) {
    setText(this.#value, value);
    setText(this.#note, note);
    const wanted = look ? `tile ${look}` : "tile";
    if (this.root.className !== wanted) this.root.className = wanted;
  }
}

export class Header {
  #tiles = {
    services: new Tile("Services"),
    servers: new Tile("Servers up"),
    flows: new Tile("Flows"),
    connections: new Tile("Connections/s"),
    packets: new Tile("Packets/s"),
    bits: new Tile("Traffic"),
  };

  constructor() {
    byId("tiles").append(...Object.values(this.#tiles).map((tile) => tile.root));
  }

  // *services*: those of the model; *total*: the rates of all of them.
  update({ status, stats }, services, total) {
    setText(byId("instance"), status.instance);
    document.title = this.#title(status, services);
    const facts = [`engine ${status.engine}`, `up ${duration(status.uptime)}`, `fallback ${status.fallback || "none"}`, `version ${status.version}`];
    setText(byId("facts"), facts.join("  ·  "));
    byId("facts").title = status.why;
    this.#say(status, stats, services, total);
    this.#sayReload(status.reload);
    setText(
      byId("footer"),
      `${status.config}  ·  from ${status.local_addresses.join(", ")} ports ${status.local_ports}  ·  process ${status.pid}`,
    );
  }

  #title(status, services) {
    const worst = services.filter((service) => service.state.rank > 3).length;
    return `${worst ? `(${worst}) ` : ""}${status.instance} – fullnat`;
  }

  #say(status, stats, services, total) {
    const tiles = this.#tiles;
    const servers = services.flatMap((service) => service.servers);
    const up = servers.filter((server) => isUp(server.state)).length;
    const troubled = services.filter((service) => service.state.rank > 1);
    const worst = Math.max(0, ...troubled.map((service) => service.state.rank));
    const trouble = troubled.length ? `${count(troubled.length)} not fully up` : "all up";
    tiles.services.say(count(services.length), trouble, worst > 4 ? "bad" : worst ? "warn" : "");
    const missing = servers.length - up;
    tiles.servers.say(count(up), `of ${count(servers.length)}`, missing ? "warn" : "");
    const part = stats.flows_limit ? status.flows / stats.flows_limit : 0;
    tiles.flows.say(count(status.flows), stats.flows_limit ? `of ${tick(stats.flows_limit)}` : "", part > 0.95 ? "bad" : part > 0.8 ? "warn" : "");
    tiles.connections.say(rate(total.connections), "new");
    const packets = total.packetsIn === null ? null : total.packetsIn + total.packetsOut;
    tiles.packets.say(rate(packets), `${rate(total.packetsIn)} in, ${rate(total.packetsOut)} out`);
    tiles.bits.say(bits(total.bitsOut), `out; ${bits(total.bitsIn)} in`);
  }

  #sayReload(reload) {
    const line = byId("reload");
    setHidden(line, !reload?.error);
    if (!reload?.error) return;
    const when = new Date(reload.last * 1000);
    setText(line, `The last reload, ${day(when)} ${clock(when)}, was refused and changed nothing: ${reload.error}`);
  }
}

// Tells that the instance does not answer; what the page shows stays, and looks it.
export class Banner {
  #since = null; // Date of the last answer

  constructor(retry) {
    byId("banner-retry").addEventListener("click", retry);
  }

  answered() {
    this.#since = new Date();
    setHidden(byId("banner"), true);
    document.body.classList.remove("stale");
  }

  lost(error, seconds) {
    const shown = this.#since === null ? "" : `; shown is how it was at ${clock(this.#since)}`;
    setText(byId("banner-text"), `Disconnected: the instance does not answer (${error.message})${shown}. Next try in ${Math.ceil(seconds)} s.`);
    setHidden(byId("banner"), false);
    document.body.classList.add("stale");
  }
}
