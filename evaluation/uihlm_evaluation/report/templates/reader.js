"use strict";
// The reader of samples: unpacks the data that reader.py packed and shows one answer, token by token.
(() => {
  const ABSENT = 65535;
  const STEPS = 65534;
  const TYPES = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };
  const ORIGIN_WORDS = {
    local: "written by the device, never sent",
    accepted: "sent, and accepted by the LLM",
    resampled: "sent, rejected, and replaced by the LLM",
    bonus: "added by the LLM after an accepted block",
    llm: "written by the LLM alone",
    outage: "written by the device while the link was down",
  };
  const $ = (id) => document.getElementById(id);
  const status = $("reader-status");

  function failed(error) {
    status.textContent = `The reader failed: ${error && error.message ? error.message : error}`;
    status.className = "notice";
    $("reader").dataset.state = "failed";
  }
  window.addEventListener("error", (event) => failed(event.error || event.message));
  window.addEventListener("unhandledrejection", (event) => failed(event.reason));

  async function unpacked() {
    if (typeof DecompressionStream === "undefined") {
      throw new Error("this browser cannot unpack the samples (it lacks DecompressionStream); use a newer one");
    }
    const packed = Uint8Array.from(atob($("reader-data").textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const length = new DataView(buffer).getUint32(0, true);
    const data = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const padded = (n) => n + ((8 - (n % 8)) % 8);
    let offset = padded(4 + length);
    data.columns = {};
    for (const [name, type, count] of data.arrays) {
      data.columns[name] = new TYPES[type](buffer, offset, count);
      offset = padded(offset + count * TYPES[type].BYTES_PER_ELEMENT);
    }
    return data;
  }

  const probability = (value) => (value === ABSENT ? "–" : (value / STEPS).toFixed(4));
  const count = (value) => (value === ABSENT ? "–" : String(value));
  const bits = (value) => value.toLocaleString("en");
  const seconds = (value) => (value === 0 ? "0" : String(Number(value.toPrecision(3))));

  function texts(data, start, n) {
    // A token may hold half a character: its text appears with the token that completes it.
    const decoder = new TextDecoder("utf-8");
    const out = [];
    for (let i = start; i < start + n; i++) {
      const id = data.columns.token[i];
      if (data.pieces === null) {
        out.push(` ${id}`);
        continue;
      }
      const bytes = Uint8Array.from(data.pieces[id], (c) => c.charCodeAt(0));
      const text = decoder.decode(bytes, { stream: true });
      out.push(text || (bytes.length ? "◌" : `⟨${i === start + n - 1 ? "end" : id}⟩`));
    }
    return out;
  }

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function start(data) {
    const rows = $("reader-row");
    const prompts = $("reader-prompt");
    const box = $("reader-tokens");
    const byKey = new Map(data.answers.map((answer) => [`${answer[0]}/${answer[1]}`, answer]));
    const indices = [...new Set(data.answers.map((answer) => answer[1]))].sort((a, b) => a - b);
    data.rows.forEach((label, code) => rows.append(new Option(label, code)));
    for (const index of indices) {
      const text = (data.prompts[index] || "").split("\n")[0];
      prompts.append(new Option(text ? `${index}: ${text.length > 60 ? text.slice(0, 60) + "…" : text}` : `prompt ${index}`, index));
    }
    // A row that sends some tokens and keeps others, and knows most of them, shows best what the reader is for.
    const c = data.columns;
    const worth = (a) => {
      const has = (name, wanted) => c[name].subarray(a[2], a[2] + a[3]).some(wanted);
      const mixed = has("uploaded", (v) => v === 1) && has("uploaded", (v) => v === 0);
      return mixed + has("u", (v) => v !== ABSENT) + has("importance", (v) => v !== ABSENT);
    };
    const best = data.answers.filter((a) => a[1] === indices[0]).sort((a, b) => worth(b) - worth(a))[0];
    if (best) rows.value = best[0];
    let shownTexts = [];
    let first = 0;
    let held = null;

    function details(i, text) {
      const c = data.columns;
      const origin = data.origins[c.origin[i]];
      const values = {
        "reader-token": `“${text.replace(/\n/g, "⏎")}” (id ${c.token[i]})`,
        "reader-origin": `${origin}: ${ORIGIN_WORDS[origin] || ""}`,
        "reader-u": probability(c.u[i]),
        "reader-importance": count(c.importance[i]),
        "reader-x": probability(c.x_d[i]),
        "reader-y": probability(c.y_d[i]),
        "reader-reject": probability(c.reject_prob[i]),
        "reader-bits": `${bits(c.model_bits[i])} model, ${bits(c.payload_bits[i])} payload`,
        "reader-seconds": `${seconds(c.draft_s[i])} device, ${seconds(c.link_s[i])} link, ${seconds(c.bs_s[i])} base station`,
      };
      for (const [id, value] of Object.entries(values)) $(id).textContent = value;
    }

    function show(token) {
      if (held) {
        held.classList.remove("held");
        held.removeAttribute("aria-current");
      }
      held = token;
      held.classList.add("held");
      held.setAttribute("aria-current", "true");
      const k = Number(token.dataset.k);
      details(first + k, shownTexts[k]);
    }

    function counts(origins) {
      const list = $("reader-counts");
      list.replaceChildren();
      for (const origin of data.order) {
        const n = origins.filter((o) => o === origin).length;
        if (!n) continue;
        const item = element("li");
        item.append(element("span", `token ${origin}`, origin), ` ${n} – ${ORIGIN_WORDS[origin]}`);
        list.append(item);
      }
    }

    function render() {
      const answer = byKey.get(`${rows.value}/${prompts.value}`);
      box.replaceChildren();
      held = null;
      $("reader-asked").textContent = data.prompts[prompts.value] || "(the text of this prompt is not in the report)";
      $("reader-reference").textContent = data.references[prompts.value] || "(none)";
      $("reader-answer").textContent = "";
      $("reader-answer").hidden = true;
      if (!answer) {
        status.textContent = "This row has no answer to this prompt.";
        counts([]);
        return;
      }
      const [, , from, n, stop, error, text] = answer;
      first = from;
      shownTexts = texts(data, from, n);
      const origins = [];
      shownTexts.forEach((piece, k) => {
        const origin = data.origins[data.columns.origin[from + k]];
        origins.push(origin);
        const token = element("span", `token ${origin}`, piece.replace(/\n/g, "⏎\n"));
        token.dataset.k = k;
        token.tabIndex = k ? -1 : 0;
        token.setAttribute("role", "button");
        token.setAttribute("aria-label", `${piece.trim() || "space"}, ${origin}`);
        box.append(token);
      });
      counts(origins);
      const ends = { eos: "ended by itself", length: "cut at the length limit", error: `failed: ${error}` };
      status.textContent = `${n} tokens, ${ends[stop] || stop}.`;
      if (text !== null) {
        $("reader-answer").textContent = text;
        $("reader-answer").hidden = false;
      }
      if (box.firstChild) show(box.firstChild);
    }

    const tokenOf = (event) => event.target.closest(".token");
    box.addEventListener("mouseover", (event) => tokenOf(event) && show(tokenOf(event)));
    box.addEventListener("click", (event) => tokenOf(event) && tokenOf(event).focus());
    box.addEventListener("focusin", (event) => tokenOf(event) && show(tokenOf(event)));
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const all = [...box.querySelectorAll(".token")];
      const at = all.indexOf(tokenOf(event));
      const to = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : at + (step || 0);
      if ((!step && !["Home", "End"].includes(event.key)) || !all[to]) return;
      all[at].tabIndex = -1;
      all[to].tabIndex = 0;
      all[to].focus();
      event.preventDefault();
    });
    const turn = (by) => {
      const to = prompts.selectedIndex + by;
      if (to < 0 || to >= prompts.options.length) return;
      prompts.selectedIndex = to;
      render();
    };
    $("reader-previous").addEventListener("click", () => turn(-1));
    $("reader-next").addEventListener("click", () => turn(1));
    rows.addEventListener("change", render);
    prompts.addEventListener("change", render);
    if (!data.answers.length) {
      status.textContent = "The run has no answers.";
    } else {
      render();
    }
    $("reader-controls").hidden = false;
    $("reader").dataset.state = "ready";
  }

  unpacked().then(start).catch(failed);
})();
