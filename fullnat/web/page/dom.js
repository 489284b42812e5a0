// SPDX-License-Identifier: Apache-2.0
// Making and patching elements.  Whatever comes from the instance becomes a text node or an attribute
// value, never markup; and what has not changed is not touched, so that the browser has nothing to draw.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== value) {
    node.setAttribute(name, value);
  }
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

// Have *nodes*, in this order, and no others in *parent*; those that are in their place stay untouched.
export function arrange(parent, nodes) {
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// A map that makes what it does not have, and can forget what is no longer there.
export class Keyed {
  #made = new Map();
  #make;

  constructor(make) {
    this.#make = make;
  }

  get(key, ...args) {
    let value = this.#made.get(key);
    if (value === undefined) this.#made.set(key, (value = this.#make(key, ...args)));
    return value;
  }

  keepOnly(keys) {
    for (const [key, value] of this.#made) {
      if (keys.has(key)) continue;
      this.#made.delete(key);
      value.forgotten?.();
    }
  }
}
