// SPDX-License-Identifier: Apache-2.0
// The status page: puts its parts together.
//
//     source.js --answers--> model (here) --> header, charts, services, panels
//               --events--------------------> events
//
// The model is one object a service, with the rows of the instance as they came, and what is computed of
// them: rates, states, and the words it is found by.

import { Chart } from "./charts.js";
import { Keyed, arrange, element } from "./dom.js";
import { Events } from "./events.js";
import { bits, duration, rate } from "./format.js";
import { Banner, Header } from "./header.js";
import { Drops, Ports } from "./panels.js";
import { History, Meter, sum } from "./rates.js";
import { Selection } from "./selection.js";
import { ServiceList } from "./services.js";
import { Source } from "./source.js";
import { stateOfServer, stateOfService } from "./states.js";

const meters = new Keyed(() => new Meter());
const histories = new Keyed(() => new History());
const charted = document.getElementById("charted");
const everything = new History();
let model = null;

function makeServer(row, time) {
  const key = `${row.service} ${row.pool} ${row.address}`;
  const state = stateOfServer(row);
  const check = row.check === null ? "" : `${row.check.code} ${row.check.detail}`;
  const words = `${row.address} ${row.pool} ${state.text} ${row.health} ${row.admin} ${check}`.toLowerCase();
  return { key, name: row.address, row, state, words, rates: meters.get(key).observe(row, time) };
}

function makeService(row, servers, time) {
  const key = row.address;
  const scheduler = [row.scheduler, ...row.scheduler_flags].join(" ");
  const persistence = row.persistence === null ? "" : `, persistent ${duration(row.persistence.timeout)}`;
  const forward = row.forward === "fullnat" ? "" : `, ${row.forward}`;
  const rates = meters.get(key).observe(row, time);
  const history = histories.get(key);
  history.add(time, rates);
  return {
    key,
    name: row.name,
    row,
    servers,
    rates,
    history,
    how: scheduler + persistence + forward,
    state: stateOfService(row, servers.map((server) => server.state)),
    words: `${row.name} ${row.address}`.toLowerCase(),
  };
}

function makeModel({ services, servers }) {
  const ofService = new Map(services.rows.map((row) => [row.name, []]));
  for (const row of servers.rows) ofService.get(row.service)?.push(makeServer(row, servers.time));
  const made = services.rows.map((row) => makeService(row, ofService.get(row.name), services.time));
  const keys = new Set(made.flatMap((service) => [service.key, ...service.servers.map((server) => server.key)]));
  meters.keepOnly(keys);
  histories.keepOnly(keys);
  const total = sum(made.map((service) => service.rates));
  everything.add(services.time, total);
  return { services: made, total, now: services.time };
}

// One choice a service, in the list of what is charted.
const choices = new Keyed((key, name) => element("option", { value: key }, name));
const allServices = charted.options[0];

function updateChoices(services) {
  const wanted = charted.value;
  arrange(charted, [allServices, ...services.map((service) => choices.get(service.key, service.name))]);
  choices.keepOnly(new Set(services.map((service) => service.key)));
  if (charted.value !== wanted) charted.value = "";
}

const charts = [
  new Chart("Connections/s", { connections: "" }, rate),
  new Chart("Packets/s", { packetsIn: "in", packetsOut: "out" }, rate),
  new Chart("Bits/s", { bitsIn: "in", bitsOut: "out" }, bits),
];
document.getElementById("charts").append(...charts.map((chart) => chart.root));

function drawCharts() {
  const history = model.services.find((service) => service.key === charted.value)?.history ?? everything;
  for (const chart of charts) chart.draw(history, model.now);
}

const header = new Header();
const banner = new Banner(() => source.look());
const list = new ServiceList(new Selection(() => model && list.update(model)));
const ports = new Ports();
const drops = new Drops();
const events = new Events();

const source = new Source({
  snapshot(answers) {
    model = makeModel(answers);
    banner.answered();
    header.update({ status: answers.status, stats: answers.stats.rows }, model.services, model.total);
    updateChoices(model.services);
    drawCharts();
    list.update(model);
    ports.update(answers.ports);
    drops.update(answers.stats.rows, answers.stats.time);
  },
  lost: (error, seconds) => banner.lost(error, seconds),
  events: (list) => events.add(list),
});

charted.addEventListener("change", () => model && drawCharts());
source.start();
