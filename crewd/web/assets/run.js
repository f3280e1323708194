// One run as it is told by several routes, put together: what crewd sees of it, and what it knows as its keeper.

import { ApiError } from "./api.js";

export const OVER = ["completed", "failed", "cancelled"];
const EVENTS_MAX = 150; // iterations, which a view of the run leaves out, are among them
const watched = new Set(); // runs that crewd only watches: it is not asked twice how it runs them

/** Ask for a run. Throws ApiError (404) where nobody has ever heard of it. */
export async function askRun(run, page) {
  const [seen, managed, why, incidents, plans, events] = await Promise.all([
    or(page.get(`runs/${encodeURIComponent(run)}`)),
    watched.has(run) ? null : or(page.get(`runs/${encodeURIComponent(run)}/managed`)),
    or(page.get(`runs/${encodeURIComponent(run)}/why`)),
    or(page.get("incidents", { run, limit: 200 })),
    or(page.get("recoveries", { limit: 1000 })),
    or(page.get(`runs/${encodeURIComponent(run)}/events`, { newest: true, limit: EVENTS_MAX })),
  ]);
  if (seen && !managed && seen.runtime !== "managed") watched.add(run);
  const past = seen || managed ? null : await pastRun(run, page);
  const tasks = past ? past.tasks : merged(seen, managed);
  return {
    run_id: run,
    past: Boolean(past),
    managed: managed !== null,
    status: managed?.status ?? seen?.status ?? past.status,
    crew: managed?.crew || seen?.crew || past?.crew || "",
    runtime: seen?.runtime ?? (managed ? "managed" : past?.runtime),
    goal: seen?.goal || managed?.name || past?.goal || "",
    labels: managed?.labels || past?.labels || {},
    created_at: seen?.created_at ?? managed?.submitted_at ?? past?.created_at,
    updated_at: seen?.updated_at ?? null,
    ended_at: managed?.ended_at ?? past?.ended_at ?? null,
    submitted_by: managed?.submitted_by || "",
    folder: seen?.folder || "",
    waiting: seen?.waiting || null,
    unread: seen?.unread || null,
    held: managed?.held || {},
    usage: seen?.usage || total(tasks),
    why,
    incidents: incidents?.incidents || [],
    plan: (plans?.recoveries || []).find((each) => each.run_id === run) || null,
    events: events?.events || [],
    tasks,
  };
}

/** Ask for one task, with the evidence on whoever works on it. Throws ApiError (404) where there is none. */
export async function askTask(run, task, page) {
  const where = `runs/${encodeURIComponent(run)}`;
  const [whole, seen, events] = await Promise.all([
    askRun(run, page),
    or(page.get(`${where}/tasks/${encodeURIComponent(task)}`)),
    or(page.get(`${where}/events`, { task, newest: true, limit: 400 })),
  ]);
  const found = whole.tasks.find((each) => each.task_id === task);
  if (!found) {
    throw new ApiError(404, "not_found", `the run ${run} has no task ${task}`, [{ message: "", next_action: "look at the run for its tasks" }]);
  }
  return {
    ...found,
    run_id: run,
    goal: whole.goal,
    crew: whole.crew,
    why_run: whole.why,
    explain: seen?.explain || null,
    table: seen?.table || null,
    events: events?.events || [],
  };
}

/** What is not there, or not told by a crew that only watches: null. */
export async function or(asked) {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiError && [404, 503].includes(error.status)) return null;
    throw error;
  }
}

function merged(seen, managed) {
  const watched = new Map((seen?.tasks || []).map((task) => [task.task_id, task]));
  const kept = new Map((managed?.tasks || []).map((task) => [task.task_id, task]));
  return [...new Set([...kept.keys(), ...watched.keys()])].map((id) => one(id, watched.get(id), kept.get(id), managed?.held));
}

function one(id, seen, kept, held) {
  const attempts = kept ? [...kept.attempts.map(attempt), ...atWork(kept, seen)] : seen?.started_at ? [watchedAttempt(seen)] : [];
  return {
    task_id: id,
    state: kept?.state ?? seen.status,
    // Of a managed task "waiting" means that it has not begun; of an observed one that it waits for an answer.
    mark: kept?.state === "waiting" ? "queued" : kept?.state ?? seen.status,
    since: kept?.since ?? null,
    attempt: kept?.attempt ?? seen.attempt,
    attempts_max: kept?.max_attempts ?? null,
    depends_on: kept?.depends_on ?? seen.depends_on,
    attempts,
    due_at: kept?.due_at ?? null,
    why: held?.[id] || kept?.why || seen?.error || (seen?.waiting ? `waits for ${seen.waiting.reason} ${seen.waiting.detail}`.trim() : ""),
    letter: kept?.letter ?? null,
    executor: kept?.executor ?? "",
    profile: kept?.profile ?? "",
    provider: kept?.provider ?? "",
    mode: kept?.mode ?? "",
    agent: kept?.agent ?? null,
    task_type: seen?.task_type || "",
    model: seen?.model || "",
    title: seen?.title || "",
    worker: seen?.worker ?? null,
    usage: kept?.usage || seen?.usage || kept?.agent?.usage || null,
    started_at: attempts[0]?.started_at ?? null,
    ended_at: attempts.at(-1)?.ended_at ?? null,
    pid: kept?.pid ?? seen?.worker?.process?.pid ?? null,
    folder: kept?.folder ?? null,
    managed: Boolean(kept),
  };
}

/** The attempt that is at work: it joins the others once it has ended. */
function atWork(kept, seen) {
  const begun = ["running", "starting", "ending"].includes(kept.state) && !kept.attempts.some((each) => each.attempt === kept.attempt);
  // Since when its state is as it is; of one that is being ended, and is the first, when the task began.
  const started = kept.state === "ending" && kept.attempt === 1 && seen?.started_at ? seen.started_at : kept.since;
  return begun ? [{ attempt: kept.attempt, started_at: started, ended_at: null, error: "", error_class: "", interrupted: false, outcome: kept.state, details: {} }] : [];
}

function attempt(told) {
  return { ...told, outcome: outcomeOf(told) };
}

function outcomeOf(told) {
  if (!told.ended_at) return "running";
  if (told.interrupted) return "interrupted";
  if (!told.error_class) return "completed";
  return told.error_class === "timeout" ? "timed_out" : told.error_class === "cancelled" ? "cancelled" : "failed";
}

function watchedAttempt(seen) {
  const over = seen.finished_at !== null;
  return {
    attempt: seen.attempt || 1, started_at: seen.started_at, ended_at: seen.finished_at, error: seen.error, error_class: "",
    outcome: over ? seen.status : "running", interrupted: false, details: {},
  };
}

function total(tasks) {
  const known = tasks.map((task) => task.usage).filter(Boolean);
  if (!known.length) return null;
  const sum = (name) => known.reduce((all, each) => all + (each[name] || 0), 0);
  const costs = known.filter((each) => each.cost_usd !== null && each.cost_usd !== undefined);
  return {
    input: sum("input"), output: sum("output"), cache_read: sum("cache_read"), cache_write: sum("cache_write"),
    cost_usd: costs.length ? sum("cost_usd") : null,
  };
}

/** A run that is only in the ledger any more. */
async function pastRun(run, page) {
  const [runs, tasks, attempts] = await Promise.all([
    page.get("history/runs", { run, limit: 1 }),
    page.get("history/tasks", { run, limit: 500 }),
    page.get("history/attempts", { run, limit: 500 }),
  ]);
  const found = runs.runs[0];
  if (!found) {
    throw new ApiError(404, "not_found", `crewd has not seen the run ${run}`, [
      { message: "it may be older than what the ledger keeps", next_action: "look at the history" },
    ]);
  }
  return { ...found, tasks: tasks.tasks.map((task) => pastTask(task, attempts.attempts)) };
}

function pastTask(task, attempts) {
  const tried = attempts.filter((each) => each.task_id === task.task_id).sort((a, b) => a.attempt - b.attempt)
    .map((each) => ({ ...each, outcome: each.outcome ?? "running", error: each.error || "", error_class: each.error_class || "", details: {} }));
  const last = tried.at(-1);
  return {
    ...one(task.task_id, { status: task.outcome ?? "running", attempt: task.attempts, depends_on: [], error: last?.error || plainly(task.error_class) }, null, null),
    usage: task.usage ?? null,
    model: task.model || "",
    executor: task.executor || "",
    task_type: task.task_type || "",
    attempts: tried,
    started_at: tried[0]?.started_at ?? task.started_at,
    ended_at: last?.ended_at ?? task.ended_at,
  };
}

function plainly(word) {
  return (word || "").replaceAll("_", " ");
}
