// Runs in the page before its own program: what a test hears with, and the voice it speaks with.
(() => {
  const hertz = HERTZ;
  const connections = [];
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...values) {
      super(...values);
      connections.push(this);
    }
  };
  if (hertz > 0) {
    // A tone instead of the fake device's beep once a second. The real one is asked all the same.
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      (await open(wanted)).getTracks().forEach((track) => track.stop());
      const context = new AudioContext();
      await context.resume();
      const gain = new GainNode(context, { gain: 0.4 });
      const tone = new OscillatorNode(context, { frequency: hertz });
      const out = context.createMediaStreamDestination();
      tone.connect(gain).connect(out);
      tone.start();
      return out.stream;
    };
  }

  const ROWS = [697, 770, 852, 941];
  const COLUMNS = [1209, 1336, 1477, 1633];
  const KEYS = ["123A", "456B", "789C", "*0#D"];
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const live = () => connections.filter((one) => one.connectionState !== "closed");

  let context = null;
  const analysers = new Map();
  function analyser(track) {
    if (!analysers.has(track)) {
      context ??= new AudioContext();
      void context.resume();
      const node = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0 });
      context.createMediaStreamSource(new MediaStream([track])).connect(node);
      analysers.set(track, node);
    }
    return analysers.get(track);
  }
  /** What arrives in all calls together: in one of them, as the others are held. */
  const listening = () =>
    live()
      .flatMap((one) => one.getReceivers())
      .filter((one) => one.track?.kind === "audio" && one.track.readyState === "live")
      .map((one) => analyser(one.track));
  function spectrum(nodes) {
    const size = 2048;
    const values = new Float32Array(size).fill(-200);
    const one = new Float32Array(size);
    for (const node of nodes) {
      node.getFloatFrequencyData(one);
      for (let bin = 0; bin < size; bin++) values[bin] = Math.max(values[bin], one[bin]);
    }
    const width = (context?.sampleRate ?? 48000) / 4096;
    const at = (frequency) => {
      const bin = Math.round(frequency / width);
      return Math.max(values[bin - 1], values[bin], values[bin + 1]);
    };
    return { values, width, at };
  }

  window.ear = {
    keys: "",
    timer: 0,
    /** Frequency and level of the loudest tone, in dB of full scale. */
    async loudest() {
      const nodes = listening();
      await wait(200);
      const { values, width } = spectrum(nodes);
      let best = 5;
      for (let bin = 5; bin * width < 4000; bin++) if (values[bin] > values[best]) best = bin;
      return [best * width, values[best]];
    },
    async packets() {
      let received = 0;
      let sent = 0;
      (await live().at(-1)?.getStats())?.forEach((one) => {
        if (one.type === "inbound-rtp") received += one.packetsReceived;
        if (one.type === "outbound-rtp") sent += one.packetsSent;
      });
      return [received, sent];
    },
    listenForKeys() {
      clearInterval(this.timer);
      let before = "";
      let same = 0;
      listening();
      const loudest = (found, tones) => {
        const levels = tones.map((one) => found.at(one));
        const best = levels.indexOf(Math.max(...levels));
        // Louder than any voice beside it, or it is only the edge of one.
        const most = Math.max(...found.values.subarray(5, 400));
        return levels[best] > -45 && levels[best] > most - 6 ? best : -1;
      };
      this.timer = setInterval(() => {
        const found = spectrum(listening());
        const row = loudest(found, ROWS);
        const column = loudest(found, COLUMNS);
        const key = row >= 0 && column >= 0 ? KEYS[row][column] : "";
        same = key === before ? same + 1 : 0;
        before = key;
        // Once, when it has lasted.
        if (key !== "" && same === 1) this.keys += key;
      }, 20);
    },
  };
})();
