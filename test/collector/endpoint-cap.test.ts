import { expect, it } from "vitest";
import { EndpointCap } from "../../collector/analysis/endpoint-cap.ts";

it("keeps who came first of each service; each call beyond is `other`, and counted", () => {
  const others: string[] = [];
  const cap = new EndpointCap(2, (service) => others.push(service));
  const calls: [string, string, string][] = [
    ["reviews.default", "GET:/a", "GET:/a"],
    ["reviews.default", "GET:/b", "GET:/b"],
    ["reviews.default", "GET:/c", "other"],
    ["reviews.default", "GET:/a", "GET:/a"],
    ["reviews.default", "GET:/c", "other"],
    ["web.default", "GET:/c", "GET:/c"],
    ["reviews.default", "GET:/b", "GET:/b"],
  ];
  for (const [service, endpoint, expected] of calls) expect(cap.admit(service, endpoint)).toBe(expected);
  expect(others).toEqual(["reviews.default", "reviews.default"]);
});

it("is deterministic: the same calls give the same", () => {
  const run = () => {
    const cap = new EndpointCap(10, () => {});
    return Array.from({ length: 1000 }, (_, i) => cap.admit(`s${i % 3}`, `GET:/${(i * 7919) % 101}`));
  };
  expect(run()).toEqual(run());
  expect(new Set(run()).size).toBeLessThanOrEqual(31);
});

it("is bounded over all services, however many there are", () => {
  let others = 0;
  const cap = new EndpointCap(10_000, () => others++);
  for (let i = 0; i < 150_000; i++) cap.admit(`s${i}`, "GET:/");
  expect(others).toBe(50_000);
  expect(cap.admit("s1", "GET:/")).toBe("GET:/");
});
