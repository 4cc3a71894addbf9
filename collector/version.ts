// The version that is reported; package.json's, which test/collector/config.test.ts compares.

export const VERSION = "0.1.0";
