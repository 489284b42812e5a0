// SPDX-License-Identifier: Apache-2.0
// Line charts of the last minutes, and small ones in a row, drawn as SVG.
//
// A chart's drawing is stretched to whatever width it has, so all its words are HTML beside it.

import { element, setAttribute, setText, svg } from "./dom.js";
import { tick } from "./format.js";
import { WINDOW } from "./rates.js";

const WIDTH = 600; // units of the drawing
const HEIGHT = 120;
const GRID = [0, 0.5, 1];

// The smallest round number: one digit times a power of ten, or 1.5 times, that is not below *value*.
function roundUp(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((digit) => digit * power).find((round) => round >= value * 0.999);
}

// The path of *points*, from *since* to *since* + *span*, to scale *top*.
function path(points, since, span, top, width, height) {
  let drawn = "";
  let pen = "M";
  for (const point of points) {
    if (point === null) {
      pen = "M";
      continue;
    }
    const x = ((point[0] - since) / span) * width;
    const y = height - (Math.min(point[1], top) / top) * height;
    drawn += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return drawn;
}

const valuesOf = (points) => points.filter((point) => point !== null).map((point) => point[1]);

export class Chart {
  #format;
  #lines; // {name, label, path, value}
  #top;
  #middle;
  #cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
  #drawing;
  #when = element("span", { class: "when" });
  #pointed = null; // 0..1, where the pointer is
  #last = null; // what was drawn

  // *lines*: {series: label}; the second is dashed, so that no colour is needed to tell them apart.
  constructor(title, lines, format) {
    this.#format = format;
    this.#lines = Object.entries(lines).map(([name, label], index) => ({
      name,
      label,
      path: svg("path", { class: `line line-${index}` }),
      value: element("b"),
    }));
    this.#top = element("span", { class: "tick tick-top" });
    this.#middle = element("span", { class: "tick tick-middle" });
    const grid = GRID.map((part) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: part * HEIGHT, y2: part * HEIGHT }));
    this.#drawing = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      ...grid,
      ...this.#lines.map((line) => line.path),
      this.#cursor,
    );
    const legend = this.#lines.map((line, index) =>
      element("span", { class: `key key-${index}` }, ...(line.label ? [`${line.label} `] : []), line.value),
    );
    const plot = element("div", { class: "plot" }, this.#drawing, this.#top, this.#middle);
    const ends = element("div", { class: "ends" }, element("span", {}, `−${WINDOW / 60} min`), element("span", {}, "now"));
    this.title = title;
    this.root = element(
      "figure",
      { class: "chart card" },
      element("figcaption", {}, element("span", { class: "name" }, title), this.#when, ...legend),
      plot,
      ends,
    );
    plot.addEventListener("pointermove", (event) => this.#point(event));
    plot.addEventListener("pointerleave", () => this.#point(null));
  }

  // Draw *history* up to the time *now*.
  draw(history, now) {
    const since = now - WINDOW;
    const series = this.#lines.map((line) => history.points(line.name, since));
    const most = Math.max(0, ...series.flatMap(valuesOf));
    const top = roundUp(most);
    this.#last = { series, since, now };
    this.#lines.forEach((line, index) =>
      setAttribute(line.path, "d", path(series[index], since, WINDOW, top, WIDTH, HEIGHT)),
    );
    setText(this.#top, tick(top));
    setText(this.#middle, tick(top / 2));
    const latest = this.#lines.map((line, index) => {
      const value = series[index].at(-1)?.[1] ?? null;
      return `${line.label} ${this.#format(value)}`.trim();
    });
    setAttribute(this.#drawing, "aria-label", `${this.title}: now ${latest.join(", ")}; at most ${this.#format(most)}`);
    this.#read();
  }

  #point(event) {
    if (event === null) {
      this.#pointed = null;
    } else {
      const box = event.currentTarget.getBoundingClientRect();
      this.#pointed = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    }
    this.#read();
  }

  // Say the values under the pointer, or the latest.
  #read() {
    if (this.#last === null) return;
    const { series, since, now } = this.#last;
    const wanted = this.#pointed === null ? now : since + this.#pointed * WINDOW;
    this.#lines.forEach((line, index) => {
      const points = series[index].filter((point) => point !== null);
      const nearest = points.reduce(
        (best, point) => (best === null || Math.abs(point[0] - wanted) <= Math.abs(best[0] - wanted) ? point : best),
        null,
      );
      setText(line.value, this.#format(nearest === null ? null : nearest[1]));
    });
    setText(this.#when, this.#pointed === null ? "" : `${Math.round(now - wanted)} s ago`);
    setAttribute(this.#cursor, "visibility", this.#pointed === null ? "hidden" : "visible");
    const x = ((this.#pointed ?? 0) * WIDTH).toFixed(1);
    setAttribute(this.#cursor, "x1", x);
    setAttribute(this.#cursor, "x2", x);
  }
}

// A line a few letters wide, to scale of its own.
export class Sparkline {
  #path = svg("path", { class: "line line-0" });

  constructor() {
    this.root = svg("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" }, this.#path);
  }

  draw(history, name, now) {
    const span = WINDOW / 3;
    const points = history.points(name, now - span);
    const top = Math.max(1e-9, ...valuesOf(points)) * 1.1;
    setAttribute(this.#path, "d", path(points, now - span, span, top, 100, 24));
  }
}
