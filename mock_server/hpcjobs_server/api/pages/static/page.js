// What the job page does in a browser beyond links and forms: it stays up to date, counts seconds, follows a log.
// Without it the page shows what was so when it was loaded, and every link and form works.
"use strict";

(() => {
  const body = document.body;
  const live = () => document.getElementById("live");

  // --- Times: as the reader's clock has them, and those that still grow

  let ahead = 0; // the service's clock, in milliseconds before this one

  const two = (number) => String(number).padStart(2, "0");

  function local(moment) {
    const date = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
    return `${date} ${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
  }

  function length(seconds) {
    if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
    const whole = Math.floor(seconds);
    if (whole < 60) return `${whole} s`;
    const days = Math.floor(whole / 86400), hours = Math.floor(whole / 3600) % 24, minutes = Math.floor(whole / 60) % 60;
    const clock = hours || days ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
    return days ? `${days} d ${clock}` : clock;
  }

  function tell_times(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      time.textContent = local(moment);
      time.title = time.dateTime;
    }
    const now = live()?.dataset.now;
    if (now) ahead = new Date(now).getTime() - Date.now();
    tick();
  }

  function tick() {
    if (body.classList.contains("stale")) return; // nobody knows whether it still runs
    const now = Date.now() + ahead;
    for (const span of document.querySelectorAll("[data-since]")) {
      span.textContent = length((now - new Date(span.dataset.since).getTime()) / 1000);
    }
  }

  // --- The connection: what is shown is the service's word, or the page says since when it is not

  const connection = document.getElementById("connection");
  const EVERY = 20_000; // milliseconds: a look even where nothing is told, which also finds a connection that hangs
  let events = null, heard = Date.now(), lost = null, retry = null, pause = 500;
  let looking = false, again = false, last = 0, pending = null;

  function show_connection() {
    body.classList.toggle("stale", lost !== null);
    connection.className = lost === null ? "connection live" : "connection lost";
    const text = lost === null ? "live" : `connection lost at ${local(lost).slice(11)}: this may be old. Trying again`;
    if (connection.textContent !== text) connection.textContent = text;
  }

  function lose() {
    lost ??= new Date(heard);
    show_connection();
  }

  function find() {
    heard = Date.now();
    pause = 500;
    lost = null;
    show_connection();
  }

  // A look at the present page. One at a time, and never so often that the service does little else.
  function look() {
    if (!live()) return;
    if (looking) { again = true; return; }
    const wait = Math.max(0, last + 400 - Date.now());
    clearTimeout(pending);
    pending = setTimeout(() => {
      looking = true;
      again = false;
      htmx.trigger(live(), "refresh");
    }, wait);
  }

  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.elt?.id !== "live") return;
    looking = false;
    last = Date.now();
    const status = event.detail.xhr?.status ?? 0;
    if (event.detail.successful) find();
    else if (status === 404 || status === 410) location.reload(); // it is not there any more: the page says so
    else lose();
    if (again) look();
  });

  function open_events() {
    if (!connection || !live()) return;
    events?.close();
    const source = events = new EventSource(connection.dataset.events + (live().dataset.ids ? `?ids=${live().dataset.ids}` : ""));
    source.addEventListener("hello", () => { find(); look(); }); // what happened before is caught up by a look
    source.addEventListener("job", () => { heard = Date.now(); look(); });
    source.addEventListener("reset", look);
    source.addEventListener("error", () => {
      if (events !== source) return;
      lose();
      if (source.readyState === EventSource.CLOSED) { // the service has refused: not tried again by itself
        clearTimeout(retry);
        retry = setTimeout(() => { open_events(); look(); }, pause);
        pause = Math.min(pause * 2, 10_000);
      }
    });
  }

  function close_events() {
    clearTimeout(retry);
    events?.close();
    events = null;
  }

  // --- What morphing must leave alone: boxes that were ticked, what was opened, the log

  if (window.Idiomorph) {
    Idiomorph.defaults.callbacks.beforeNodeMorphed = (old, fresh) => {
      if (!(old instanceof Element) || !(fresh instanceof Element)) return true;
      // a field that nobody has touched shows what is so now
      if (old.hasAttribute("data-kept")) {
        return old.matches("input:not([data-kept=always])") && old !== document.activeElement && old.value === old.defaultValue;
      }
      if (old.matches("input[type=checkbox]")) fresh.toggleAttribute("checked", old.checked);
      if (old.matches(".acts button")) fresh.toggleAttribute("disabled", old.disabled);
      if (old.id === "pick-all") fresh.hidden = false;
      if (old.matches("details") && old.open) fresh.setAttribute("open", "");
      return true;
    };
  }
  document.addEventListener("htmx:afterSwap", () => {
    tell_times(document);
    count_picked();
    if (live()?.dataset.title) document.title = live().dataset.title;
  });

  // --- Selecting

  function picks() { return [...document.querySelectorAll("td.pick input")]; }

  function count_picked() {
    const all = document.getElementById("pick-all"), told = document.getElementById("picked");
    if (!told) return;
    const boxes = picks(), ticked = boxes.filter((box) => box.checked).length;
    const whole = document.querySelector("input[name=all]")?.checked;
    const text = whole ? "all selected" : ticked ? `${ticked} selected` : "";
    if (told.textContent !== text) told.textContent = text; // which is read out
    for (const button of document.querySelectorAll(".acts button")) button.disabled = !ticked && !whole;
    if (all) {
      all.hidden = false;
      all.checked = ticked > 0 && ticked === boxes.length;
      all.indeterminate = ticked > 0 && ticked < boxes.length;
    }
  }

  document.addEventListener("change", (event) => {
    if (event.target.id === "pick-all") for (const box of picks()) box.checked = event.target.checked;
    if (event.target.matches("input[type=checkbox]")) count_picked();
  });

  // --- A log that follows: by byte offset, so that nothing is lost or doubled

  const MOST = 400_000; // characters that are shown
  const PIECE = 262_144; // bytes that are asked for at once
  const BEHIND = 16 * PIECE; // a log that is ahead by more is gone on with near its end
  const ESCAPES = /\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])/g;
  const STRANGE = /[^\P{C}\t]|[\p{Zl}\p{Zp}]/gu;

  // As a terminal shows it, and as the service shows it when the page is loaded: a line that was overwritten as it was
  // last. Line by line: an escape sequence that has no end must not take the lines after it along.
  function plain(text) {
    return text.split("\n").map((line) => {
      const last = line.replace(/\r+$/, "");
      return last.slice(last.lastIndexOf("\r") + 1).replace(ESCAPES, "").replace(STRANGE, "\ufffd");
    }).join("\n");
  }

  function size(bytes) {
    const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), 4), value = (bytes / 1024 ** power).toFixed(1);
    return `${value.replace(/\.0$/, "")} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
  }

  const after = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const ended = (word) => ["FINISHED", "FAILED", "CANCELLED"].includes(word);

  async function follow(log) {
    const rest = log.querySelector("[data-rest]"); // the line that was begun: it comes again, and whole
    const told = log.previousElementSibling?.querySelector("[data-told]");
    let offset = Number(log.dataset.offset), attempt = log.dataset.attempt, cut = "cut" in log.dataset;
    let raw = "", decoder = new TextDecoder(), wait = 500, inside = false, held = new AbortController();
    document.addEventListener("visibilitychange", () => { if (document.hidden) held.abort(); });

    const begin = (from) => {
      [offset, raw, decoder] = [from, "", new TextDecoder()];
      log.replaceChildren(rest);
    };
    const tell = (none) => {
      if (told) told.textContent = log.textContent === "" ? none : cut ? `the end of ${size(offset)}` : "";
    };
    const show = (text) => {
      const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      raw += text;
      if (inside && raw.includes("\n")) { // gone on with in the middle of a line
        raw = raw.slice(raw.indexOf("\n") + 1);
        inside = false;
      }
      // What is whole is added and stays as it is, so that a selection in it stays, too.
      const whole = raw.lastIndexOf("\n") + 1;
      if (whole) rest.before(plain(raw.slice(0, whole)));
      raw = raw.slice(Math.max(whole, raw.length - MOST));
      rest.textContent = plain(raw);
      while (log.textContent.length > MOST && log.firstChild.nextSibling !== rest && log.firstChild !== rest) {
        log.firstChild.remove();
        cut = true;
      }
      tell("nothing yet");
      if (below) log.scrollTop = log.scrollHeight;
    };

    log.scrollTop = log.scrollHeight;
    for (;;) {
      if (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
      held = new AbortController();
      const late = setTimeout((request) => request.abort(), 40_000, held);
      try {
        const answer = await fetch(`${log.dataset.follow}?wait=20`, {
          headers: { Range: `bytes=${offset}-${offset + PIECE - 1}` }, cache: "no-store", signal: held.signal,
        });
        const state = answer.headers.get("Hpcjobs-Job-State"), now = answer.headers.get("Hpcjobs-Attempt");
        if (now !== null && now !== attempt) { // the job runs again, with a new log
          [attempt, cut, inside] = [now, false, false];
          begin(0);
          show("");
          continue;
        }
        if (answer.status === 206 || answer.status === 200) {
          if (answer.status === 200) begin(0); // the range was left out on the way: this is all of it
          const data = await answer.arrayBuffer();
          const total = Number(answer.headers.get("Content-Range")?.split("/")[1] ?? 0);
          offset += data.byteLength;
          show(decoder.decode(data, { stream: true }));
          if (total - offset > BEHIND) {
            begin(total - PIECE);
            [cut, inside] = [true, true];
          } else if (offset >= total) {
            await after(answer.status === 200 ? 5000 : 200); // a job that prints a lot is not asked for each line
          }
        } else if (answer.status === 416) {
          // nothing more comes, unless the job runs again
          if (ended(state)) {
            tell("it printed nothing");
            do await after(1000); while (ended(live()?.dataset.state));
          } else {
            await after(500); // where the service holds no more requests, it answers at once
          }
        } else if (answer.status === 404 || answer.status === 401 || answer.status === 403) {
          return;
        } else {
          throw new Error(String(answer.status));
        }
        wait = 500;
      } catch {
        if (document.hidden) continue;
        await after(wait); // the bar on top says that the connection is lost
        wait = Math.min(wait * 2, 10_000);
      } finally {
        clearTimeout(late);
      }
    }
  }

  // --- Copying

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy)?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it and copy";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  // --- Begin

  document.getElementById("zone").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
  tell_times(document);
  count_picked();
  for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = !navigator.clipboard;
  for (const log of document.querySelectorAll("[data-follow]")) follow(log);
  if (connection && live()) {
    open_events();
    setInterval(tick, 1000);
    setInterval(() => { if (!document.hidden && Date.now() - last > EVERY) look(); }, 1000);
    // A browser opens few connections to one host: those of pages that nobody sees are closed.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) close_events();
      else { open_events(); look(); }
    });
    window.addEventListener("pagehide", close_events);
    window.addEventListener("pageshow", (event) => { if (event.persisted) { open_events(); look(); } });
    window.addEventListener("offline", lose);
    window.addEventListener("online", () => { open_events(); look(); });
  }
})();
