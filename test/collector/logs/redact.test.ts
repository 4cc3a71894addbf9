// What must not be kept, and what may.

import { describe, expect, it } from "vitest";
import { DEFAULT_REDACTED_HEADERS, Redaction } from "../../../collector/logs/redact.ts";

const redaction = new Redaction({ headers: DEFAULT_REDACTED_HEADERS, query: true });

describe("names of secrets", () => {
  it.each([
    "authorization",
    "Authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "X-API-KEY",
    "x-auth-token",
    "x-amz-security-token",
    "x-goog-iap-jwt-assertion",
    "x-csrf-token",
    "x-hub-signature-256",
    "client_secret",
    "x-session-id",
  ])("%s", (name) => expect(redaction.value(name, "s3cret")).toBe("[redacted]"));

  it.each(["user-agent", "x-request-id", "content-type", "grpc-status", "traceparent", ":authority", "route"])(
    "%s is none",
    (name) => expect(redaction.value(name, "a=b; c")).toBe("a=b; c"),
  );

  it("are the configured ones, whatever their case; none, if none are", () => {
    const own = new Redaction({ headers: ["X-Mine", "*-internal"], query: true });
    expect(["x-mine", "X-MINE", "a-Internal", "x-mine-2", "cookie"].map((name) => own.isSecret(name))).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
    expect(new Redaction({ headers: [], query: true }).value("cookie", "a=b")).toBe("a=b");
  });

  it("are told from others again and again, however many names there are", () => {
    for (let i = 0; i < 5000; i++) {
      expect(redaction.isSecret(`x-token-${i}`)).toBe(true);
      expect(redaction.isSecret(`x-other-${i}`)).toBe(false);
    }
  });
});

describe("paths and URLs", () => {
  it.each([
    ["/reviews/7", "/reviews/7"],
    ["/reviews?", "/reviews"],
    ["/reviews?access_token=abc&user=me", "/reviews?access_token=[redacted]&user=[redacted]"],
    ["/reviews?a=b=c", "/reviews?a=[redacted]"],
    ["/reviews?eyJhbGciOi", "/reviews?[redacted]"],
    ["/reviews?a=&b", "/reviews?a=[redacted]&[redacted]"],
    ["/reviews?a=b?c=d", "/reviews?a=[redacted]"],
    ["/reviews#access_token=abc", "/reviews"],
    ["/reviews?a=b#access_token=abc", "/reviews?a=[redacted]"],
    ["https://a.example/x?code=1", "https://a.example/x?code=[redacted]"],
    ["https://me:pw@a.example/x", "https://[redacted]@a.example/x"],
    ["https://me:p@w@a.example/x?y=1", "https://[redacted]@a.example/x?y=[redacted]"],
    ["/a@b?c=d", "/a@b?c=[redacted]"],
    ["login?token=abc", "login?token=[redacted]"],
    ["a.example/x?token=abc", "a.example/x?token=[redacted]"],
    ["*", "*"],
    ["", ""],
  ])("%s -> %s", (text, expected) => {
    expect(redaction.url(text)).toBe(expected);
    expect(redaction.value("location", text)).toBe(expected);
  });

  it("are told from other texts by how these begin, or by their header's name", () => {
    expect(redaction.value("x-note", "what? a question")).toBe("what? a question");
    expect(redaction.value("x-note", "/a?b=c")).toBe("/a?b=[redacted]");
    expect(redaction.value("Referer", "a.example/x?token=abc")).toBe("a.example/x?token=[redacted]");
  });

  it("may keep their query, never a password", () => {
    const open = new Redaction({ headers: [], query: false });
    expect(open.url("/a?b=c#d")).toBe("/a?b=c#d");
    expect(open.url("http://me:pw@a/x?b=c")).toBe("http://[redacted]@a/x?b=c");
  });
});
