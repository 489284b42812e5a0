// SPDX-License-Identifier: Apache-2.0
// The list of services.  Hundreds may be there and thousands of servers, so a service is drawn only while
// it is on the screen or near it, and its table exists only once it was opened.

import { Keyed, arrange, element, setAttribute, setHidden, setText } from "./dom.js";
import { bits, count, duration, rate } from "./format.js";
import { Sparkline } from "./charts.js";
import { ServerTable } from "./servers.js";

const NEAR = "300px"; // of the screen
const OPEN_SERVERS = 60; // up to so many servers in all, services begin open, but not on a phone
const PHONE = "(max-width: 520px)";
const HEAD_HEIGHT = 50; // pixels of a service, about: what is not drawn yet takes so much room
const ROW_HEIGHT = 34; // of a server

let numbered = 0;

class Figure {
  #value = element("dd");

  constructor(title, kind) {
    this.root = element("div", { class: `figure ${kind}` }, element("dt", {}, title), this.#value);
  }

  say(text) {
    setText(this.#value, text);
  }
}

class ServiceView {
  #id = `service-${(numbered += 1)}`;
  #pill = element("span", { class: "pill" });
  #name = element("span", { class: "name" });
  #address = element("span", { class: "address" });
  #how = element("span", { class: "quiet how" });
  #button = element("button", { type: "button", class: "opener", "aria-expanded": "false", "aria-controls": this.#id });
  #body = element("div", { id: this.#id, class: "body", hidden: "" });
  #figures = {
    serving: new Figure("serving", "text"),
    servers: new Figure("servers", "short"),
    active: new Figure("active", "short"),
    connections: new Figure("conn/s", "short"),
    packets: new Figure("packets/s", "short"),
    bitsIn: new Figure("in", "long"),
    bitsOut: new Figure("out", "long"),
  };
  #spark = new Sparkline();
  #table = null;
  #data = null; // what to draw
  #isOpen = false;
  isNear = false;

  constructor(toggled) {
    const title = element("span", { class: "title" }, this.#name, this.#address, this.#how);
    this.#button.append(this.#pill, title);
    this.root = element(
      "article",
      { class: "service card" },
      element(
        "div",
        { class: "line-of-service" },
        element("h3", {}, this.#button),
        element("dl", { class: "figures" }, ...Object.values(this.#figures).map((figure) => figure.root)),
        this.#spark.root,
      ),
      this.#body,
    );
    this.#button.addEventListener("click", () => toggled(!this.#isOpen));
  }

  give(data) {
    this.#data = data;
    setAttribute(this.root, "data-service", data.service.name);
    if (this.#isOpen !== data.isOpen) this.#toggle(data.isOpen);
  }

  // Draw what was given last; it is on the screen.
  draw() {
    const { service, servers, isOpen, now } = this.#data;
    const { row, rates, state } = service;
    setText(this.#pill, state.text);
    setAttribute(this.#pill, "class", `pill ${state.look}`);
    setAttribute(this.#pill, "title", state.meaning);
    setText(this.#name, row.name);
    setText(this.#address, row.address);
    setText(this.#how, service.how);
    this.#say(row, rates);
    this.#spark.draw(service.history, "connections", now);
    if (!isOpen) return;
    if (this.#table === null) {
      this.#table = new ServerTable(row.name);
      this.#body.append(this.#table.root);
    }
    this.#table.update(servers, service.servers);
  }

  #say(row, rates) {
    const figures = this.#figures;
    figures.serving.say(row.serving || "nobody");
    figures.servers.say(`${count(row.available)} of ${count(row.servers)}`);
    figures.active.say(count(row.active));
    figures.connections.say(rate(rates.connections));
    figures.packets.say(rate(rates.packetsIn === null ? null : rates.packetsIn + rates.packetsOut));
    figures.bitsIn.say(bits(rates.bitsIn));
    figures.bitsOut.say(bits(rates.bitsOut));
  }

  #toggle(isOpen) {
    this.#isOpen = isOpen;
    setAttribute(this.#button, "aria-expanded", String(isOpen));
    const height = HEAD_HEIGHT + (isOpen ? (this.#data.servers.length + 1) * ROW_HEIGHT : 0);
    this.root.style.containIntrinsicBlockSize = `auto ${height}px`;
    setHidden(this.#body, !isOpen);
  }
}

export class ServiceList {
  #root = document.getElementById("services");
  #shown = document.getElementById("shown");
  #views = new Keyed((key) => this.#make(key));
  #byRoot = new WeakMap();
  #open = new Map(); // key: whether its user opened or closed it
  #openAll = null; // what the buttons above say; null: nothing yet
  #selection;
  #model = null;
  #observer = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: NEAR });

  constructor(selection) {
    this.#selection = selection;
    document.getElementById("expand").addEventListener("click", () => this.#toggleAll(true));
    document.getElementById("collapse").addEventListener("click", () => this.#toggleAll(false));
  }

  // *model*: services, now
  update(model) {
    this.#model = model;
    const { services, now } = model;
    const chosen = this.#selection.choose(services);
    const usually = this.#openAll ?? (this.#isSmall(services) || this.#selection.isNarrow);
    const roots = chosen.map(([service, servers]) => {
      const view = this.#views.get(service.key);
      view.give({ service, servers, isOpen: this.#open.get(service.key) ?? usually, now });
      if (view.isNear) view.draw();
      return view.root;
    });
    arrange(this.#root, roots);
    this.#views.keepOnly(new Set(services.map((service) => service.key)));
    this.#say(chosen, services);
  }

  #isSmall(services) {
    const servers = services.reduce((sum, service) => sum + service.servers.length, 0);
    return servers <= OPEN_SERVERS && !matchMedia(PHONE).matches;
  }

  #say(chosen, services) {
    const all = services.length;
    if (!this.#selection.isNarrow) {
      setText(this.#shown, all ? "" : "No service is configured.");
      return;
    }
    const servers = chosen.reduce((sum, [, found]) => sum + found.length, 0);
    setText(this.#shown, `${count(chosen.length)} of ${count(all)} services, with ${count(servers)} servers`);
  }

  #make(key) {
    const view = new ServiceView((isOpen) => {
      this.#open.set(key, isOpen);
      this.update(this.#model);
    });
    this.#byRoot.set(view.root, view);
    this.#observer.observe(view.root);
    view.forgotten = () => {
      this.#observer.unobserve(view.root);
      this.#open.delete(key);
    };
    return view;
  }

  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      const view = this.#byRoot.get(target);
      view.isNear = isIntersecting;
      if (isIntersecting) view.draw();
    }
  }

  #toggleAll(isOpen) {
    this.#open.clear();
    this.#openAll = isOpen;
    if (this.#model) this.update(this.#model);
  }
}
