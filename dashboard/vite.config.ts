import { defineConfig } from "vite";

/** Everything is bundled; assets carry a hash in their name; nothing is inlined, for the content security policy. */
export default defineConfig({
  base: "/",
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    emptyOutDir: true,
  },
});
