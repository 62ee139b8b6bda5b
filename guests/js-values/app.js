// Each function hands its arguments to the host's of the same name.

import * as host from "aegis:values/kinds@1.0.0";

export const kinds = Object.fromEntries(
  Object.entries(host)
    .filter(([, value]) => typeof value === "function")
    .map(([name, value]) => [name, (...values) => value(...values)]),
);
