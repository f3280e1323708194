// Asking crewd, and having it change things. The token is asked for once, and kept for as long as the tab is open.

import { askToken } from "./dialogs.js";

const API = "/api/v1";
const TOKEN = "crewd.token";
const TIMEOUT_MS = 20_000;

/** What crewd refused, or that it did not answer (`code` is then "unreachable"). */
export class ApiError extends Error {
  constructor(status, code, message, details = []) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details; // [{code, path, message, next_action}]
  }

  /** What is to be done about it, one sentence a detail. */
  get advice() {
    return this.details.map((each) => [each.message, each.next_action].filter(Boolean).join(": "));
  }
}

/** Ask for JSON: `get("runs", {status: ["running"], workers: true})`. A path that begins with / is taken as it is. */
export async function get(path, query = {}, { signal } = {}) {
  const response = await send(address(path, query), { signal });
  return response.json();
}

/** Change something. Asks for the token where crewd wants one. Throws ApiError; `null` if the person thinks better of it. */
export async function post(path, body = {}) {
  const words = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  // What a change does may take long: it is answered when nothing of a cancelled run is left.
  const response = await withToken((headers) =>
    send(address(path), { ...words, headers: { ...words.headers, ...headers } }, 120_000),
  );
  return response === null ? null : response.json();
}

/** Ask for what is told only with the token; the response itself, or null if the person gives none. */
export async function trusted(path, query = {}, { signal } = {}) {
  return withToken((headers) => send(address(path, query), { headers, signal }));
}

/** Say whether a token is known in this tab. */
export function hasToken() {
  return Boolean(sessionStorage.getItem(TOKEN));
}

/** Forget the token. */
export function forgetToken() {
  sessionStorage.removeItem(TOKEN);
}

/** The address of something crewd serves. */
export function address(path, query = {}) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") words.append(name, String(each));
    }
  }
  const search = words.toString();
  return (path.startsWith("/") ? path : `${API}/${path}`) + (search ? `?${search}` : "");
}

async function withToken(ask) {
  for (let complaint = "", tries = 0; ; tries += 1) {
    if (!hasToken()) {
      const given = await askToken(complaint);
      if (given === null) return null;
      sessionStorage.setItem(TOKEN, given);
    }
    try {
      return await ask({ authorization: `Bearer ${sessionStorage.getItem(TOKEN)}` });
    } catch (error) {
      if (!["wrong_token", "bad_authorization"].includes(error.code) || tries > 5) throw error;
      forgetToken();
      complaint = "That is not crewd's token.";
    }
  }
}

async function send(url, init, timeout = TIMEOUT_MS) {
  const limit = AbortSignal.timeout(timeout);
  const signal = init.signal ? AbortSignal.any([init.signal, limit]) : limit;
  let response;
  try {
    response = await fetch(url, { ...init, signal, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "crewd does not answer", [
      { code: "unreachable", path: "", message: "the daemon is stopped or hangs", next_action: "see `crewd doctor`" },
    ]);
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  try {
    const { error } = await response.json();
    return new ApiError(response.status, error.code, error.message, error.details || []);
  } catch {
    return new ApiError(response.status, "refused", `crewd answered ${response.status}`);
  }
}
