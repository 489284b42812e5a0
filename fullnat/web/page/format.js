// SPDX-License-Identifier: Apache-2.0
// Numbers as people read them.  Null is what is not known yet.

const UNKNOWN = "–";
const SPACE = "\u00a0"; // a unit stays with its number
const PREFIXES = ["", "k", "M", "G", "T", "P"];

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// Three digits that count, and a prefix: 0.4, 12.3, 456, 7.89 M.
function scaled(value) {
  let size = 0;
  while (value >= 999.5 && size < PREFIXES.length - 1) {
    value /= 1000;
    size += 1;
  }
  const digits = size === 0 ? (value < 9.95 && value % 1 ? 1 : 0) : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return [value.toFixed(digits), PREFIXES[size]];
}

export function rate(value) {
  if (value === null) return UNKNOWN;
  const [number, prefix] = scaled(value);
  return prefix ? `${number}${SPACE}${prefix}` : number;
}

export function bits(value) {
  if (value === null) return UNKNOWN;
  const [number, prefix] = scaled(value);
  return `${number}${SPACE}${prefix}bit/s`;
}

// A round number: 2.5 k for 2500.
export function tick(value) {
  return rate(value).replace(/(\.\d*?)0+(?!\d)/, "$1").replace(/\.(?!\d)/, "");
}

export function count(value) {
  return value === null ? UNKNOWN : value < 1e6 ? whole.format(value) : rate(value);
}

export function percent(part) {
  const value = part * 100;
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : value.toFixed(0)}${SPACE}%`;
}

// The two largest units: 3 d 4 h, 5 m 12 s, 7 s.
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  let left = Math.max(0, Math.floor(seconds));
  const at = units.findIndex(([, size]) => left >= size);
  if (at < 0) return `0${SPACE}s`;
  const words = [];
  for (const [name, size] of units.slice(at, at + 2)) {
    const many = Math.floor(left / size);
    left -= many * size;
    if (many || !words.length) words.push(`${many}${SPACE}${name}`);
  }
  return words.join(SPACE);
}

function twoDigits(number) {
  return String(number).padStart(2, "0");
}

export function clock(date) {
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(":");
}

export function day(date) {
  return `${date.getFullYear()}-${twoDigits(date.getMonth() + 1)}-${twoDigits(date.getDate())}`;
}
