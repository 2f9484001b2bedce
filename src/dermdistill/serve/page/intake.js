// The ways by which images come in: chosen, photographed, dropped, pasted.

/** Call `add` with the files of each. */
export function listenForImages(add) {
  for (const [action, id] of [["choose", "files"], ["photograph", "camera"]]) {
    const input = document.getElementById(id);
    for (const button of document.querySelectorAll(`[data-action=${action}]`)) button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      add(input.files);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  addEventListener("paste", (event) => add(event.clipboardData.files));
  listenForDrops(add);
}

function listenForDrops(add) {
  let depth = 0; // dragenter and dragleave come for every element on the way
  const mark = (change) => (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    depth += change;
    document.body.classList.toggle("dragging", depth > 0);
  };
  addEventListener("dragenter", mark(1));
  addEventListener("dragleave", mark(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    document.body.classList.remove("dragging");
    add(event.dataTransfer.files);
  });
}
