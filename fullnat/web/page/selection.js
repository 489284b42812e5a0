// SPDX-License-Identifier: Apache-2.0
// Which services and servers are shown, and in which order: the tools above them.  What is chosen stands
// in the address of the page too, so that it can be bookmarked.

import { isUp } from "./states.js";

const byId = (id) => document.getElementById(id);

const packets = ({ rates }) => (rates.packetsIn ?? 0) + (rates.packetsOut ?? 0);
const bits = ({ rates }) => (rates.bitsIn ?? 0) + (rates.bitsOut ?? 0);

const ORDERS = {
  state: (one, two) => two.state.rank - one.state.rank,
  name: (one, two) => one.name.localeCompare(two.name, "en", { numeric: true }),
  connections: (one, two) => (two.rates.connections ?? 0) - (one.rates.connections ?? 0),
  packets: (one, two) => packets(two) - packets(one),
  bits: (one, two) => bits(two) - bits(one),
  active: (one, two) => two.row.active - one.row.active,
};

export class Selection {
  #query = byId("query");
  #hideUp = byId("hide-up");
  #sort = byId("sort");

  // *changed* is called when another choice was made.
  constructor(changed) {
    const chosen = new URLSearchParams(location.hash.slice(1));
    this.#query.value = chosen.get("q") ?? "";
    this.#hideUp.checked = chosen.get("up") === "0";
    this.#sort.value = chosen.get("sort") ?? "";
    if (this.#sort.selectedIndex < 0) this.#sort.selectedIndex = 0;
    byId("tools").addEventListener("input", () => {
      this.#remember();
      changed();
    });
    byId("tools").addEventListener("submit", (event) => event.preventDefault());
  }

  get isNarrow() {
    return this.#query.value.trim() !== "" || this.#hideUp.checked;
  }

  // The services to show, each with its servers to show: [service, servers].
  choose(services) {
    const words = this.#query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    for (const service of services) {
      const left = words.filter((word) => !service.words.includes(word));
      const matching = service.servers.filter((server) => left.every((word) => server.words.includes(word)));
      const servers = this.#hideUp.checked ? matching.filter((server) => !isUp(server.state)) : matching;
      const isItself = left.length === 0 && !(this.#hideUp.checked && isUp(service.state));
      if (isItself || servers.length) found.push([service, this.#sorted(servers, (server) => server)]);
    }
    return this.#sorted(found, ([service]) => service);
  }

  #sorted(list, thing) {
    const order = ORDERS[this.#sort.value];
    return order ? [...list].sort((one, two) => order(thing(one), thing(two))) : list;
  }

  #remember() {
    const chosen = new URLSearchParams();
    if (this.#query.value.trim()) chosen.set("q", this.#query.value.trim());
    if (this.#hideUp.checked) chosen.set("up", "0");
    if (this.#sort.value) chosen.set("sort", this.#sort.value);
    history.replaceState(null, "", chosen.size ? `#${chosen}` : location.pathname);
  }
}
