// Bundles src/ into the folder that the PBX serves: index.html, and assets with a hash in their
// names, so that browsers may keep them for good. Usage: node build.mjs [FOLDER]
import { build } from "esbuild";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "..", "pbx", "http", "static");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const result = await build({
  absWorkingDir: here,
  entryPoints: { phone: "src/main.tsx" },
  outdir: join(out, "assets"),
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome111", "firefox115", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "eof",
  metafile: true,
  logLevel: "warning",
});

const made = Object.keys(result.metafile.outputs).map((path) => basename(path));
const named = (suffix) => {
  const name = made.find((path) => path.endsWith(suffix));
  if (name === undefined) throw new Error(`no ${suffix} was built`);
  return `assets/${name}`;
};
const page = readFileSync(join(here, "src", "index.html"), "utf8")
  .replace("@script@", named(".js"))
  .replace("@style@", named(".css"));
writeFileSync(join(out, "index.html"), page);
cpSync(join(here, "src", "favicon.svg"), join(out, "favicon.svg"));
