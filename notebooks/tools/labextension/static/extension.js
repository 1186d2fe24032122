// A JupyterLab extension without a build step: loads content.css, and gives each callout its kind as
// export/page.py does. JupyterLab calls `init` and `get` as of a webpack module federation container.
"use strict";
(() => {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("content.css", document.currentScript.src).href;

  const kinds = {"key insight": "insight", "watch out": "warning", "your turn": "task"};
  const classify = () => {
    for (const label of document.querySelectorAll(
      ".jp-RenderedMarkdown blockquote:not(.callout) > p:first-child > strong:first-child"
    )) {
      if (label.previousSibling?.textContent.trim()) continue;
      const name = label.textContent.replace(/[.:! ]+$/, "");
      const quote = label.closest("blockquote");
      quote.classList.add("callout", kinds[name.toLowerCase()] ?? "note");
      quote.setAttribute("role", "note");
      quote.setAttribute("aria-label", name);
    }
  };

  const plugin = {
    id: "walkthrough_style:plugin",
    autoStart: true,
    activate: () => {
      document.head.append(style);
      let scheduled = false;
      new MutationObserver(() => {
        if (scheduled) return;
        scheduled = true;
        requestAnimationFrame(() => { scheduled = false; classify(); });
      }).observe(document.body, {childList: true, subtree: true});
    },
  };
  (window._JUPYTERLAB ??= {}).walkthrough_style = {
    init: () => {},
    get: async () => () => ({__esModule: true, default: plugin}),
  };
})();
