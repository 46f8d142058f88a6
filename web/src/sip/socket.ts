import type { Socket } from "jssip/lib/Socket";

/** Seconds between two keep-alives, and how long the answer to one may take (RFC 5626 §4.4.1). */
const PING = 25;
const PONG = 10;
const CRLF = "\r\n";

/**
 * The WebSocket to the PBX, as JsSIP wants one (RFC 7118).
 *
 * JsSIP's own never notices that the network is gone, as a closed lid or another Wi-Fi leave it.
 * This one asks for a sign of life; it also opens at once when told so.
 */
export class KeptSocket implements Socket {
  via_transport: string;
  readonly sip_uri: string;
  #socket: WebSocket | null = null;
  #ping = 0;
  #pong = 0;

  constructor(readonly url: string) {
    const place = new URL(url);
    this.via_transport = place.protocol === "wss:" ? "WSS" : "WS";
    this.sip_uri = `sip:${place.host};transport=ws`;
  }

  // JsSIP puts its own in here.
  onconnect(): void {}
  ondisconnect(_error: boolean, _code?: number, _reason?: string): void {}
  ondata<T>(_event: T): void {}

  connect(): void {
    if (this.#socket !== null && this.#socket.readyState <= WebSocket.OPEN) return;
    const socket = new WebSocket(this.url, "sip");
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      this.#ping = window.setInterval(() => this.#ask(), PING * 1000);
      this.onconnect();
    };
    socket.onclose = (event) => this.#gone(!event.wasClean, event.code, event.reason);
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      window.clearTimeout(this.#pong);
      this.#pong = 0;
      this.ondata(event.data);
    };
  }

  disconnect(): void {
    this.#forget()?.close();
  }

  send(message: string): boolean {
    if (!this.isConnected()) return false;
    this.#socket?.send(message);
    return true;
  }

  isConnected(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  isConnecting(): boolean {
    return this.#socket?.readyState === WebSocket.CONNECTING;
  }

  /** Is the server still there? To be asked after sleep and when the network changed. */
  check(): void {
    if (this.isConnected()) this.#ask();
  }

  #ask(): void {
    if (this.#pong !== 0 || !this.send(CRLF + CRLF)) return;
    this.#pong = window.setTimeout(() => {
      this.#forget()?.close();
      this.ondisconnect(true, 1006, "no answer");
    }, PONG * 1000);
  }

  #gone(error: boolean, code: number, reason: string): void {
    this.#forget();
    this.ondisconnect(error, code, reason);
  }

  /** From now on nothing of the old socket is heard. */
  #forget(): WebSocket | null {
    window.clearInterval(this.#ping);
    window.clearTimeout(this.#pong);
    this.#pong = 0;
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) socket.onopen = socket.onclose = socket.onmessage = null;
    return socket;
  }
}
