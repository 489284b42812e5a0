// SPDX-License-Identifier: Apache-2.0
// What happened, the latest first, as it happens.

import { element, setAttribute, setHidden } from "./dom.js";
import { clock, day } from "./format.js";

const KEPT = 200;
const LOOKS = {
  "server-up": "up",
  "server-down": "bad",
  "nobody-serves": "bad",
  "pool-serves": "warn",
  "reload-refused": "bad",
  "ports-spent": "bad",
  "table-full": "bad",
  "host-failed": "bad",
  drained: "idle",
};
const HEAD = new Set(["sequence", "time", "event", "kind"]); // what every event has
const PLAIN = new Set(["service", "server", "code", "detail"]); // which say themselves what they are

function words(event) {
  return Object.entries(event)
    .filter(([key]) => !HEAD.has(key))
    .map(([key, value]) => (PLAIN.has(key) ? String(value) : `${key} ${value}`))
    .join("  ");
}

function view(event) {
  const when = new Date(event.time * 1000);
  return element(
    "li",
    { "data-sequence": event.sequence },
    element("time", { datetime: when.toISOString(), title: `${day(when)} ${clock(when)}` }, clock(when)),
    element("span", { class: `pill ${LOOKS[event.kind] ?? "idle"}`, title: event.event }, event.kind),
    element("span", { class: "words" }, words(event)),
  );
}

export class Events {
  #list = document.getElementById("events");
  #none = document.getElementById("no-events");

  // *events*: oldest first
  add(events) {
    const isNews = events.at(-1).time * 1000 > performance.timeOrigin; // nobody wants the past read aloud
    setAttribute(this.#list, "aria-live", isNews ? "polite" : "off");
    this.#list.prepend(...events.slice(-KEPT).reverse().map(view));
    while (this.#list.childElementCount > KEPT) this.#list.lastElementChild.remove();
    setHidden(this.#none, true);
  }
}
