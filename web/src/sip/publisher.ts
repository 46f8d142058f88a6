import RequestSender from "jssip/lib/RequestSender";
import { OutgoingRequest, type IncomingResponse } from "jssip/lib/SIPMessage";
import type { UA } from "jssip/lib/UA";
import type { URI } from "jssip/lib/URI";

/** Seconds; what a page that crashed has published is gone after that. */
const EXPIRES = 120;

type MakeRequest = new (
  method: string,
  target: URI,
  ua: UA,
  params: object,
  headers: string[],
  body: string,
) => OutgoingRequest;

/** Keeps one document published (RFC 3903), which JsSIP cannot do. */
export class Publisher {
  #tag = "";
  #timer = 0;
  #body = "";

  constructor(
    private readonly ua: UA,
    private readonly target: URI,
    private readonly event: string,
    private readonly contentType: string,
  ) {}

  /** A new document in place of the one before. */
  publish(body: string): void {
    this.#body = body;
    this.#send(body, EXPIRES);
  }

  /** Nothing is published any more. */
  withdraw(): void {
    window.clearTimeout(this.#timer);
    if (this.#tag !== "") this.#send("", 0);
    this.#tag = "";
  }

  /** The connection is another one: begin anew, without the old entity tag. */
  stop(): void {
    window.clearTimeout(this.#timer);
  }

  #send(body: string, expires: number): void {
    window.clearTimeout(this.#timer);
    const headers = [`Event: ${this.event}`, `Expires: ${expires}`];
    if (this.#tag !== "") headers.push(`SIP-If-Match: ${this.#tag}`);
    if (body !== "") headers.push(`Content-Type: ${this.contentType}`);
    const Make = OutgoingRequest as unknown as MakeRequest;
    const request = new Make("PUBLISH", this.target, this.ua, {}, headers, body);
    const later = (seconds: number): void => {
      if (expires === 0) return;
      window.clearTimeout(this.#timer);
      this.#timer = window.setTimeout(() => this.#send(this.#body, EXPIRES), seconds * 1000);
    };
    new RequestSender(this.ua, request, {
      onRequestTimeout: () => later(60),
      onTransportError: () => {},
      onAuthenticated: () => {},
      onReceiveResponse: (response: IncomingResponse) => {
        if (response.status_code < 200) return;
        if (response.status_code < 300) {
          if (expires === 0) return;
          this.#tag = response.getHeader("SIP-ETag") ?? "";
          later((Number(response.getHeader("Expires")) || EXPIRES) * 0.8);
        } else if (response.status_code === 412) {
          this.#tag = "";
          later(0);
        } else {
          later(300);
        }
      },
    }).send();
  }
}
