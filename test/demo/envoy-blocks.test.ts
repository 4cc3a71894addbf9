import { describe, expect, test } from "vitest";
import { ArgumentError, envoyArguments } from "../../envoy/arguments.ts";
import { changedLines, fillBlocks } from "../../envoy/blocks.ts";

describe("fillBlocks", () => {
  test("replaces what stands between markers, indented as they are, and nothing else", () => {
    const text = ["before", "  # generated: tags", "  old", "  # end generated", "after"].join("\n");
    const fresh = fillBlocks(text, (name) => [`${name}:`, "", "  - a"]);
    expect(fresh).toBe(
      ["before", "  # generated: tags", "  tags:", "", "    - a", "  # end generated", "after"].join("\n"),
    );
    expect(fillBlocks(fresh, (name) => [`${name}:`, "", "  - a"])).toBe(fresh);
  });

  test("knows the markers of Markdown", () => {
    const text = "<!-- generated: table -->\n<!-- end generated -->\n";
    expect(fillBlocks(text, (name) => [name])).toBe("<!-- generated: table -->\ntable\n<!-- end generated -->\n");
  });

  test("refuses a block without end", () => {
    expect(() => fillBlocks("# generated: tags\nold\n", () => [])).toThrow("the generated block tags has no end");
  });
});

test("changedLines shows what went and what came", () => {
  expect(changedLines("a\nb\nc", "a\nd\nc")).toEqual(["- b", "+ d"]);
});

describe("envoyArguments", () => {
  test("takes the first argument as the configuration, from where the user is", () => {
    expect(envoyArguments(["sidecar.yaml", "-l", "info"], "/here")).toEqual(["-c", "/here/sidecar.yaml", "-l", "info"]);
    expect(envoyArguments(["/etc/envoy.yaml"], "/here")).toEqual(["-c", "/etc/envoy.yaml"]);
  });

  test("hands flags to Envoy as they are", () => {
    expect(envoyArguments(["--version"], "/here")).toEqual(["--version"]);
  });

  test("makes a configuration of the bounds of histograms", () => {
    const given = ["sidecar.yaml", "--histogram-bounds", "5,7.5, 10", "-l", "info"];
    const [, , flag, added = "", ...rest] = envoyArguments(given, "/here");
    expect([flag, ...rest]).toEqual(["--config-yaml", "-l", "info"]);
    const histogram_bucket_settings = [{ match: { prefix: "wasmcustom." }, buckets: [5, 7.5, 10] }];
    expect(JSON.parse(added)).toEqual({ stats_config: { histogram_bucket_settings } });
  });

  test.each(["", "5,,10", "10,5", "5,5", "0,5", "5,x", "5,Infinity", "-l"])("refuses %j as bounds", (bounds) => {
    expect(() => envoyArguments(["sidecar.yaml", "--histogram-bounds", bounds], "/here")).toThrow(ArgumentError);
  });
});
