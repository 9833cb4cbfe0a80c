// Abbreviations and Greek letters of running text say what they mean when pointed at.

const TERMS = {
  MSO: "mode subspace overlap: the share of directions that the leading subspaces of two updates have in common, 0 to 1",
  SVD: "singular value decomposition: the directions of a matrix, from the one that matters most",
  SD: "standard deviation",
  SE: "standard error",
  KL: "Kullback–Leibler divergence: how far one model's probabilities of the next token are from another's, in nats",
  LoRA: "low-rank adapter: a fine-tune stored as two thin matrices per layer",
  "Top-K": "the k leading directions of a reference update",
  "Random-K": "k directions of the reference update, chosen at random",
  η: "eta, the energy fraction: the leading directions that hold this share of an update's squared size",
  α: "alpha: how far along an update the model goes, 0 the aligned model, 1 the fine-tuned one",
  κ: "kappa: agreement beyond chance, 0 to 1",
};
const WHOLE_WORDS = Object.keys(TERMS).filter((term) => term.length > 1).join("|");
const LETTERS = Object.keys(TERMS).filter((term) => term.length === 1).join("");
const TERM = new RegExp(`\\b(?:${WHOLE_WORDS})\\b(?!-)|(?<!\\p{L})[${LETTERS}](?!\\p{L})`, "u");
const APART = "a, abbr, code, pre, script, svg, .math, mjx-container, h1, h2, h3, h4";

function explainTerms(block) {
  const texts = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
  const known = new Set();
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const found = text.data.match(TERM);
    if (!found || known.has(found[0]) || text.parentElement.closest(APART)) continue;
    known.add(found[0]); // once in a paragraph
    const word = text.splitText(found.index);
    word.splitText(found[0].length);
    const explained = document.createElement("abbr");
    explained.title = TERMS[found[0]];
    word.replaceWith(explained);
    explained.append(word);
    texts.currentNode = explained;
    texts.nextNode(); // the word itself
  }
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("article :is(p, figcaption, th, td):not(:has(p))").forEach(explainTerms);
});
