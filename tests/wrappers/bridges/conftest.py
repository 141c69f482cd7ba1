"""A server that says what a test wants it to, our tokenizers as those of Hugging Face, and the guide's programs."""

import ast
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from explore_gym.envs.text.tokenizers import WordTokenizer

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "language_models.md"


class ChatServer(ThreadingHTTPServer):
    """Answers a request for a chat completion with what `reply(request)` says: content, or (status, headers, body).

    Attributes:
        requests: the bodies, in the order in which they came.
        keys: the Authorization headers.
    """

    daemon_threads = True

    def __init__(self, reply):
        self.reply, self.requests, self.keys, self.lock = reply, [], [], threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request)
            self.server.keys.append(self.headers["Authorization"])
        said = self.server.reply(request)
        status, headers, body = said if isinstance(said, tuple) else (200, {}, completion(said))
        body = body.encode()
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # who asked has given up
            self.close_connection = True

    def log_message(self, *_):
        pass


def completion(content):
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage})


@pytest.fixture
def chat_server():
    """start(reply): a `ChatServer`."""
    servers = []

    def start(reply):
        servers.append(ChatServer(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def as_theirs():
    """as_theirs(tokenizer): one of our tokenizers of words or characters as one of transformers."""
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")

    def convert(ours):
        vocabulary = {piece: i for i, piece in enumerate(ours.pieces)}
        theirs = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
        if isinstance(ours, WordTokenizer):
            theirs.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        else:
            theirs.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
            theirs.decoder = tokenizers.decoders.Fuse()
        theirs.post_processor = tokenizers.processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
        special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "padding_side": "left"}
        return transformers.PreTrainedTokenizerFast(tokenizer_object=theirs, **special)

    return convert


@pytest.fixture
def guide_program():
    """guide_program(title, url): the program of that section of the guide that asks a server, which is at that address."""

    def find(title, url):
        section = GUIDE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
        (code,) = re.findall(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        assert "http://localhost:8000/v1" in code
        return compile(code.replace("http://localhost:8000/v1", url), title, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    return find
