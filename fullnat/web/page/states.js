// SPDX-License-Identifier: Apache-2.0
// What to call the state of a server and of a service, and how bad it is.

// Ranks: higher is worse.  The look is a class of style.css; the text says the same without colour.
const state = (text, look, rank, meaning) => Object.freeze({ text, look, rank, meaning });

const DOWN = state("DOWN", "bad", 5, "its check fails: no new connections");
const NOBODY = state("DOWN", "bad", 6, "nobody serves");
const SORRY = state("SORRY", "bad", 5, "the sorry server serves: no pool has quorum");
const BACKUP = state("BACKUP", "warn", 4, "a backup pool serves");
const FULL = state("FULL", "warn", 4, "at its upper connection threshold: no new connections");
const DRAIN = state("DRAIN", "warn", 3, "keeps its connections, takes no new ones");
const PARTLY = state("PARTLY", "warn", 3, "serves, with servers missing");
const UNKNOWN = state("UNKNOWN", "warn", 2, "no check has ended yet");
const DISABLED = state("DISABLED", "off", 2, "out of service by an operator's wish");
const WEIGHTLESS = state("UP, WEIGHT 0", "warn", 2, "takes no new connections");
const STANDBY = state("STANDBY", "idle", 1, "its pool does not serve now");
const UNCHECKED = state("NO CHECK", "up", 0, "serves, and nothing checks it");
const UP = state("UP", "up", 0, "serves");

export function stateOfServer(row) {
  if (row.admin === "disabled") return DISABLED;
  if (row.health === "down") return DOWN;
  if (row.admin === "drain") return DRAIN;
  if (row.overloaded) return FULL;
  if (!row.in_rotation) return STANDBY;
  if (row.effective_weight === 0) return WEIGHTLESS;
  if (row.health === "unknown") return row.check === null ? UNCHECKED : UNKNOWN;
  return UP;
}

// *states* are those of its servers.
export function stateOfService(row, states) {
  if (row.serving === "") return NOBODY;
  if (row.serving === "sorry") return SORRY;
  if (row.pools.length && row.serving !== row.pools[0].name) return BACKUP;
  return states.some(({ rank }) => rank >= PARTLY.rank) ? PARTLY : UP;
}

export function isUp(state) {
  return state.rank <= STANDBY.rank;
}
