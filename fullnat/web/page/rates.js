// SPDX-License-Identifier: Apache-2.0
// Rates, from counters of successive answers, and the last minutes of them.

export const WINDOW = 300; // seconds that are kept and drawn
const POINTS = 320; // a little more than one a second of them
const GAP = 5; // seconds without an answer that a line does not cross

export const SERIES = ["connections", "packetsIn", "packetsOut", "bitsIn", "bitsOut"];
const NOTHING = Object.freeze({ connections: null, packetsIn: null, packetsOut: null, bitsIn: null, bitsOut: null });

// The counters of a row of the instance, in the order of SERIES.
function counters(row) {
  return [row.connections, row.packets_in, row.packets_out, row.bytes_in * 8, row.bytes_out * 8];
}

// What one thing does a second.  *now* is the clock of the instance, so that the way here does not count.
export class Meter {
  #last = null;
  #time = 0;
  rates = NOTHING;

  observe(row, now) {
    const current = counters(row);
    const passed = now - this.#time;
    if (this.#last !== null && passed === 0) return this.rates; // the same answer again
    const isNew = this.#last === null || passed < 0 || current.some((value, index) => value < this.#last[index]);
    this.rates = isNew
      ? NOTHING
      : Object.fromEntries(SERIES.map((name, index) => [name, (current[index] - this.#last[index]) / passed]));
    this.#last = current;
    this.#time = now;
    return this.rates;
  }
}

// What several meters say together; null only if none says anything.
export function sum(all) {
  const total = { ...NOTHING };
  for (const rates of all) {
    for (const name of SERIES) {
      if (rates[name] !== null) total[name] = (total[name] ?? 0) + rates[name];
    }
  }
  return total;
}

// The last minutes of rates: a ring of points.
export class History {
  #times = new Float64Array(POINTS);
  #values = SERIES.map(() => new Float32Array(POINTS));
  #next = 0;
  #length = 0;

  add(time, rates) {
    if (rates.connections === null) return;
    if (time < this.#times[(this.#next - 1 + POINTS) % POINTS]) this.#length = 0; // the host started anew
    this.#times[this.#next] = time;
    SERIES.forEach((name, index) => (this.#values[index][this.#next] = rates[name]));
    this.#next = (this.#next + 1) % POINTS;
    this.#length = Math.min(this.#length + 1, POINTS);
  }

  // The points of *name* after *since*, oldest first: [time, value], or null where a line breaks.
  points(name, since) {
    const values = this.#values[SERIES.indexOf(name)];
    const found = [];
    let before = null;
    for (let index = this.#length; index > 0; index -= 1) {
      const at = (this.#next - index + POINTS) % POINTS;
      const time = this.#times[at];
      if (time < since) continue;
      if (before !== null && time - before > GAP) found.push(null);
      found.push([time, values[at]]);
      before = time;
    }
    return found;
  }
}
