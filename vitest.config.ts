import { defineConfig } from "vitest/config";

// Kinds of tests, told apart by their names:
//   *.test.ts         unit: pure, no process, no network
//   *.border.test.ts  one part against the real thing: git, libsql, HTTP
//   *.images.test.ts  projects in big images, made from Debian's and npm's packages: npm run test:images
//   *.agents.test.ts  real agents before a scripted model: npm run test:agents
//   *.sim.test.ts     the app's real code in a simulated world, seed by seed
//   *.crash.test.ts   app and daemon killed at each place that app/protocol/crash.ts names: npm run test:crash
//   *.way.test.ts     the whole way: label → container → check run; needs Docker and the base image
/** A project inherits nothing: without it a poll gives up after a second. */
const expect = { poll: { timeout: 60_000 } };

export default defineConfig({
  test: {
    // Each file has its own app, daemons, ports and folders, and waits for most of its time.
    maxWorkers: 3,
    projects: [
      {
        test: {
          name: "unit",
          expect,
          testTimeout: 60_000,
          include: ["test/**/*.test.ts"],
          exclude: [
            "test/**/*.border.test.ts",
            "test/**/*.way.test.ts",
            "test/**/*.images.test.ts",
            "test/**/*.agents.test.ts",
            "test/**/*.sim.test.ts",
            "test/**/*.crash.test.ts",
            "test/**/fixtures/**",
          ],
        },
      },
      {
        test: {
          name: "border",
          expect,
          include: ["test/**/*.border.test.ts"],
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "sim",
          expect,
          include: ["test/**/*.sim.test.ts"],
          // After all others: it uses every core, and they measure their time against real programs.
          sequence: { groupOrder: 1 },
          testTimeout: 600_000,
        },
      },
      {
        test: {
          name: "images",
          expect,
          include: ["test/**/*.images.test.ts"],
          testTimeout: 2_400_000,
          hookTimeout: 900_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "agents",
          expect,
          include: ["test/**/*.agents.test.ts"],
          testTimeout: 400_000,
          hookTimeout: 900_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "crash",
          expect,
          include: ["test/**/*.crash.test.ts"],
          testTimeout: 400_000,
          hookTimeout: 240_000,
        },
      },
      {
        test: {
          name: "way",
          expect,
          include: ["test/**/*.way.test.ts"],
          testTimeout: 400_000,
          hookTimeout: 240_000,
        },
      },
    ],
  },
});
