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
    /** Frequency and level of the loudest tone, in dB of full scale. */
    async loudest() {
      const nodes = listening();
      await wait(200);
      const { values, width } = spectrum(nodes);
      let best = 5;
      for (let bin = 5; bin * width < 4000; bin++) if (values[bin] > values[best]) best = bin;
      return [best * width, values[best]];
    },
    /** The microphone of the newest call. */
    microphone() {
      return live().at(-1).getSenders().find((one) => one.track?.kind === "audio").track.label;
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
    /** Record from now on: what is looked at later misses nothing on a busy machine. */
    listenForKeys() {
      const receiver = live().at(-1).getReceivers().find((one) => one.track?.kind === "audio");
      const recorder = new MediaRecorder(new MediaStream([receiver.track]));
      const parts = (this.parts = []);
      recorder.ondataavailable = ({ data }) => parts.push(data);
      recorder.start();
      this.recorder?.stop();
      this.recorder = recorder;
    },
    /** The keys in what was recorded. */
    async keys() {
      const come = new Promise((resolve) => {
        this.recorder.addEventListener("dataavailable", resolve, { once: true });
      });
      this.recorder.requestData();
      await come;
      const bytes = await new Blob(this.parts).arrayBuffer();
      const rate = 8000;
      const sound = await new OfflineAudioContext(1, rate, rate).decodeAudioData(bytes);
      const samples = sound.getChannelData(0);
      // 20 ms each: what is left of a key after the jitter buffer may be no more than 50.
      const length = rate / 50;
      const share = (from, hertz, power) => {
        const turn = 2 * Math.cos((2 * Math.PI * hertz) / rate);
        let one = 0;
        let two = 0;
        for (let at = from; at < from + length; at++) [one, two] = [samples[at] + turn * one - two, one];
        return (2 * (one * one + two * two - turn * one * two)) / (length * power);
      };
      const keyAt = (from) => {
        const power = samples.subarray(from, from + length).reduce((sum, one) => sum + one * one, 0);
        if (power / length < 1e-5) return "";
        const rows = ROWS.map((hertz) => share(from, hertz, power));
        const columns = COLUMNS.map((hertz) => share(from, hertz, power));
        const row = Math.max(...rows);
        const column = Math.max(...columns);
        if (Math.min(row, column) < 0.1 || row + column < 0.45) return "";
        return KEYS[rows.indexOf(row)][columns.indexOf(column)];
      };
      let keys = "";
      let before = "";
      let same = 0;
      for (let from = 0; from + length <= samples.length; from += length / 4) {
        const key = keyAt(from);
        same = key === before ? same + 1 : 0;
        before = key;
        // Once, when it has lasted.
        if (key !== "" && same === 1) keys += key;
      }
      return keys;
    },
  };
})();
