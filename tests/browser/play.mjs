// Plays a package in headless Chromium: node play.mjs FOLDER MANIFEST CHROMIUM. Prints one JSON object:
// {"unsupported": [...]} where the browser lacks a codec, else {"played": [{"height", "seconds"}...], "cue", "errors": [...]}.
// Runs in a folder with node_modules of playwright-core, hls.js and shaka-player.
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, basename } from "node:path";

const [folder, manifest, executablePath] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const hls = manifest.endsWith(".m3u8");
const library = require.resolve(hls ? "hls.js/dist/hls.min.js" : "shaka-player/dist/shaka-player.compiled.js");
const types = { m3u8: "application/vnd.apple.mpegurl", mpd: "application/dash+xml", mp4: "video/mp4", m4s: "video/iso.segment", vtt: "text/vtt" };

const server = createServer(async (request, response) => {
  const name = basename(new URL(request.url, "http://x").pathname);
  const type = types[name.split(".").pop()] ?? "text/html";
  try {
    const body = name === "page" ? "<video muted></video><script src=library></script>"
      : await readFile(name === "library" ? library : join(folder, name));
    response.writeHead(200, { "content-type": name === "library" ? "text/javascript" : type }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({
  executablePath,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
});
try {
  const page = await browser.newPage();
  await page.goto(`${origin}/page`);
  await page.addScriptTag({ content: `${firstCue}` });
  console.log(JSON.stringify(await page.evaluate(hls ? playHls : playDash, manifest)));
} finally {
  await browser.close();
  server.close();
}

// Each rendition from the start for a second, then the end: what is decoded is what the picture's height says.
async function playHls(manifest) {
  const video = document.querySelector("video");
  const errors = [], played = [];
  const player = new Hls({ capLevelToPlayerSize: false });
  player.on(Hls.Events.ERROR, (_, data) => data.fatal && errors.push(`${data.type} ${data.details}`));
  const parsed = new Promise((done) => player.on(Hls.Events.MANIFEST_PARSED, done));
  player.loadSource(manifest);
  player.attachMedia(video);
  await parsed;
  const promised = (await (await fetch(manifest)).text()).match(/#EXT-X-STREAM-INF/g).length;
  for (let level = 0; level < player.levels.length; level++) {
    player.currentLevel = level;
    const wanted = player.levels[level].height;
    video.currentTime = 0;
    await video.play();
    const began = performance.now();
    while (!(video.videoHeight === wanted && video.currentTime > 1) && performance.now() - began < 20000 && !errors.length) {
      await new Promise((soon) => setTimeout(soon, 50));
    }
    played.push({ height: video.videoHeight, wanted, seconds: video.currentTime });
  }
  player.subtitleTrack = 0;
  player.subtitleDisplay = true;
  const cue = await firstCue(video, player.subtitleTracks[0]?.lang);
  return { promised, offered: player.levels.length, played, cue, errors, duration: video.duration };
}

// The first cue of whichever text track the player has filled.
async function firstCue(video, language) {
  for (const began = performance.now(); performance.now() - began < 10000; await new Promise((soon) => setTimeout(soon, 50))) {
    for (const track of video.textTracks) {
      if (track.mode === "disabled") track.mode = "hidden";
      const [cue] = track.cues ?? [];
      if (cue) return { text: cue.text, begins: cue.startTime, language };
    }
  }
  return null;
}

async function playDash(manifest) {
  const video = document.querySelector("video");
  const errors = [], played = [];
  const player = new shaka.Player();
  await player.attach(video);
  player.addEventListener("error", (event) => errors.push(`shaka ${event.detail.code}`));
  player.configure({ abr: { enabled: false }, manifest: { disableVideo: false } });
  await player.load(manifest);
  const promised = (await (await fetch(manifest)).text()).match(/mimeType="video/g).length;
  const tracks = player.getVariantTracks().sort((one, other) => one.height - other.height);
  for (const track of tracks) {
    player.selectVariantTrack(track, true);
    video.currentTime = 0;
    await video.play();
    const began = performance.now();
    while (!(video.videoHeight === track.height && video.currentTime > 1) && performance.now() - began < 20000 && !errors.length) {
      await new Promise((soon) => setTimeout(soon, 50));
    }
    played.push({ height: video.videoHeight, wanted: track.height, seconds: video.currentTime });
  }
  const [text] = player.getTextTracks();
  if (text) {
    player.selectTextTrack(text);
    await player.setTextTrackVisibility?.(true);
  }
  const cue = await firstCue(video, text?.language);
  return { promised, offered: tracks.length, played, cue, errors, duration: video.duration };
}
