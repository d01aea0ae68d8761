// The server: its settings, answers as they are written, and feedback. The key comes from the
// address (#key=...), from which it is taken at once, or from the person; it lives as long as the tab.

const ROOT = new URL("..", import.meta.url);
const KEY = "humpty.key";

// What went wrong: `code` is the server's, or "unreachable", "broken".
export class ApiError extends Error {
  constructor(status, code, message, wait = 0) {
    super(message);
    Object.assign(this, { status, code, wait });
  }
}

let key = "";
try {
  key = sessionStorage.getItem(KEY) || "";
} catch {
  // then it is asked for again
}

export function takeKeyFromAddress() {
  const found = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!found) return;
  setKey(found);
  history.replaceState(null, "", location.pathname + location.search);
}

export function setKey(value) {
  key = value.trim();
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // kept in memory only
  }
}

export const hasKey = () => key !== "";

export async function getSettings() {
  return (await call("chat/settings")).json();
}

export const sendFeedback = (judgement) => call("feedback", judgement);

export async function isAlive() {
  try {
    return (await fetch(new URL("health", ROOT), { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

async function call(path, body, signal) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const init = { headers, signal, cache: "no-store" };
  if (body)
    Object.assign(init, {
      method: "POST",
      body: JSON.stringify(body),
      headers: { ...headers, "content-type": "application/json" },
    });
  let response;
  try {
    response = await fetch(new URL(path, ROOT), init);
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(0, "unreachable", "");
  }
  if (response.ok) return response;
  const error = (await response.json().catch(() => ({})))?.error ?? {};
  // a proxy in front of a server that is gone answers in its own words
  const code =
    error.code ||
    (response.status >= 502 && response.status <= 504 ? "unreachable" : `http_${response.status}`);
  throw new ApiError(
    response.status,
    code,
    error.message ?? "",
    Number(response.headers.get("retry-after")) || 0,
  );
}

// The events of a streamed answer: {index, text, finish} of choices, {usage}, {artifact}, {dropped}.
export async function* answers(model, messages, options, signal) {
  const body = {
    model: model.id,
    stream: true,
    stream_options: { include_usage: true },
    ...options,
  };
  if (model.chat) body.messages = messages;
  else {
    body.prompt = messages.at(-1).content;
    delete body.truncation;
    body.max_tokens ??= Math.floor(model.context / 2);
  }
  const response = await call(model.chat ? "v1/chat/completions" : "v1/completions", body, signal);
  for await (const chunk of chunks(response.body)) {
    if (chunk.error) throw new ApiError(500, chunk.error.code || "broken", chunk.error.message);
    if (chunk.system_fingerprint) yield { artifact: chunk.system_fingerprint };
    if (chunk.truncation?.dropped_messages) yield { dropped: chunk.truncation.dropped_messages };
    for (const choice of chunk.choices ?? []) {
      yield {
        index: choice.index,
        text: choice.delta?.content ?? choice.text ?? "",
        finish: choice.finish_reason,
      };
    }
    if (chunk.usage) yield { usage: chunk.usage };
  }
}

// The objects of a stream of server-sent events, up to [DONE]; without that the server fell.
async function* chunks(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (buffer + value).split(/\r?\n\r?\n/);
      buffer = events.pop();
      for (const event of events) {
        const data = event
          .split(/\r?\n/)
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart())
          .join("\n");
        if (data === "[DONE]") return;
        if (data) yield JSON.parse(data);
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof SyntaxError) throw error;
  }
  throw new ApiError(0, "broken", "");
}
