// A part of JsSIP that its own declarations leave out; what is used of it is declared here.

declare module "jssip/lib/RequestSender" {
  import type { UA } from "jssip/lib/UA";
  import type { IncomingResponse } from "jssip/lib/SIPMessage";

  interface Handlers {
    onRequestTimeout(): void;
    onTransportError(): void;
    onAuthenticated(): void;
    onReceiveResponse(response: IncomingResponse): void;
  }
  export default class RequestSender {
    constructor(ua: UA, request: unknown, handlers: Handlers);
    send(): void;
  }
}
