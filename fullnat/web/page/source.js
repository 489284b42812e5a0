// SPDX-License-Identifier: Apache-2.0
// Where the numbers come from: one look a second at the instance, and a stream of its events.
//
//     looking --an answer is missing--> lost --every 1, 2, 4, 5 s: an answer--> looking
//     either  --the page is hidden----> nothing at all, until it is seen again
//
// A look that takes long, with thousands of servers or over a slow line, makes the next one wait: no more than
// a part of the time is spent on looking.  An event about a server brings the next look forward.

const INTERVAL = 1000; // ms
const SOON = 600; // ms after a look begins the next one may: answers are kept for half a second
const SLOWEST = 5000;
const PART = 0.25; // of the time, at most, goes into a look
const PATIENCE = 8000; // ms for an answer
const PORTS_EVERY = 3; // looks: they are many, and move slowly
const CLOCK = "Fullnat-Clock"; // a header: when the answer was made, in seconds

async function ask(name) {
  const answer = await fetch(`v1/${name}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`${name}: status ${answer.status}`);
  const rows = await answer.json();
  const made = Number.parseFloat(answer.headers.get(CLOCK));
  return { rows, time: Number.isNaN(made) ? performance.now() / 1000 : made };
}

export class Source {
  #handlers;
  #timer = 0;
  #looking = false;
  #isAsked = false; // an event came since the last look began
  #soonest = 0; // when the next look may begin
  #looks = 0;
  #failures = 0;
  #ports = [];
  #stream = null;
  #sequence = 0; // of the last event
  #started = 0; // which run of the instance the sequence counts in

  // *handlers*: snapshot(answers), lost(error, seconds until the next try), events(list)
  constructor(handlers) {
    this.#handlers = handlers;
    document.addEventListener("visibilitychange", () => this.#changeVisibility());
  }

  start() {
    this.#changeVisibility();
  }

  // Look now, whatever time it is.
  async look() {
    clearTimeout(this.#timer);
    if (this.#looking) return;
    this.#looking = true;
    this.#isAsked = false;
    const begun = performance.now();
    const answers = await this.#gather();
    try {
      if (answers !== null) this.#handlers.snapshot(answers);
    } finally {
      const wait = this.#failures ? this.#pause : INTERVAL;
      const busy = Math.min((performance.now() - begun) / PART, SLOWEST);
      this.#soonest = begun + Math.max(SOON, busy);
      this.#looking = false;
      this.#lookAt(this.#isAsked && !this.#failures ? this.#soonest : begun + Math.max(wait, busy));
    }
  }

  #lookAt(time) {
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.look(), Math.max(0, time - performance.now()));
  }

  // Look as soon as that shows something new.
  #lookSoon() {
    this.#isAsked = true;
    if (!this.#looking && !this.#failures) this.#lookAt(this.#soonest);
  }

  // Return the answers, or null if one is missing.
  async #gather() {
    const wanted = ["status", "services", "servers", "stats"];
    if (this.#looks % PORTS_EVERY === 0) wanted.push("ports");
    try {
      const [status, services, servers, stats, ports] = await Promise.all(wanted.map(ask));
      this.#looks += 1;
      this.#failures = 0;
      if (ports) this.#ports = ports.rows;
      this.#follow(status.rows.started);
      return { status: status.rows, services, servers, stats, ports: this.#ports };
    } catch (error) {
      this.#looks = 0;
      this.#failures += 1;
      this.#unfollow();
      this.#handlers.lost(error, this.#pause / 1000);
      return null;
    }
  }

  // How long to wait after a failure, in ms.
  get #pause() {
    return Math.min(INTERVAL * 2 ** (this.#failures - 1), SLOWEST);
  }

  #changeVisibility() {
    if (!document.hidden) {
      this.look();
      return;
    }
    clearTimeout(this.#timer);
    this.#unfollow();
  }

  #follow(started) {
    if (started !== this.#started) {
      this.#unfollow();
      this.#started = started;
      this.#sequence = 0;
    }
    if (this.#stream !== null || document.hidden) return;
    const stream = new EventSource(`v1/events?follow=1&since=${this.#sequence}`);
    let waiting = [];
    stream.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (stream !== this.#stream || event.sequence <= this.#sequence) return;
      this.#sequence = event.sequence;
      waiting.push(event);
      if (waiting.length > 1) return;
      setTimeout(() => {
        const events = waiting;
        waiting = [];
        this.#lookSoon();
        this.#handlers.events(events);
      });
    };
    stream.onerror = () => {
      if (stream === this.#stream) this.#unfollow(); // the next look opens another
    };
    this.#stream = stream;
  }

  #unfollow() {
    this.#stream?.close();
    this.#stream = null;
  }
}
