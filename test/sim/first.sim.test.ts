import { testKept, testSeeds } from "./seeds.ts";

testKept();
testSeeds(0, 2);
