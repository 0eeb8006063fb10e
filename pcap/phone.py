#!/usr/bin/env python3
"""A phone that is PJSUA's (PyPI pjsua2-python), for pcap/record-calls: dials or is dialled, and then does what its script says.

    phone.py --at 127.0.2.1:5060 --rtp 30000 --codec PCMU --sound said.wav [--dial sip:…] [--tcp] STEP…

Steps: wait:SECONDS  keys:DIGITS (RFC 4733)  info:DIGITS (SIP INFO, application/dtmf-relay)  hold  resume  bye
A phone that is dialled first takes its steps before the answer: ring, early (183 with media), wait:SECONDS, answer.
"""
import argparse
import os
import sys
import time

import pjsua2 as pj


class Call(pj.Call):
    sound = None
    over = False
    confirmed = False

    def onCallState(self, _):
        state = self.getInfo().state
        self.confirmed |= state == pj.PJSIP_INV_STATE_CONFIRMED
        self.over |= state == pj.PJSIP_INV_STATE_DISCONNECTED

    def onCallMediaState(self, _):
        # What it holds lives no longer than itself.
        info = self.getInfo()
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                self.sound.startTransmit(self.getAudioMedia(index))


class Account(pj.Account):
    ringing = None

    def onIncomingCall(self, incoming):
        self.ringing = Call(self, incoming.callId)


def status(code):
    prm = pj.CallOpParam()
    prm.statusCode = code
    return prm


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--at", required=True)
    args.add_argument("--rtp", type=int, required=True)
    args.add_argument("--codec", default="PCMU")
    args.add_argument("--sound", required=True)
    args.add_argument("--user", default="phone")
    args.add_argument("--dial")
    args.add_argument("--tcp", action="store_true")
    args.add_argument("steps", nargs="+")
    args = args.parse_args()
    host, port = args.at.rsplit(":", 1)

    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.logConfig.level = config.logConfig.consoleLevel = 3
    config.medConfig.noVad = True
    config.medConfig.clockRate = 16000 if args.codec == "G722" else 8000
    endpoint.libInit(config)
    transport = pj.TransportConfig()
    transport.boundAddress = host
    transport.port = int(port)
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_TCP if args.tcp else pj.PJSIP_TRANSPORT_UDP, transport)
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith(args.codec + "/") else 0)

    account_config = pj.AccountConfig()
    account_config.idUri = f"sip:{args.user}@{args.at}" + (";transport=tcp" if args.tcp else "")
    account_config.mediaConfig.transportConfig.boundAddress = host
    account_config.mediaConfig.transportConfig.port = args.rtp
    account_config.mediaConfig.rtcpMuxEnabled = False
    account_config.callConfig.timerUse = pj.PJSUA_SIP_TIMER_INACTIVE
    account = Account()
    account.create(account_config)
    player = pj.AudioMediaPlayer()
    player.createPlayer(args.sound)
    Call.sound = player

    def until(holds, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not holds():
            endpoint.libHandleEvents(10)

    if args.dial:
        call = Call(account)
        prm = pj.CallOpParam(True)
        prm.opt.videoCount = prm.opt.textCount = 0
        call.makeCall(args.dial, prm)
        until(lambda: call.confirmed or call.over, 20)
    else:
        until(lambda: account.ringing, 30)
        call = account.ringing
        if call is None:
            sys.exit("nobody called")
    for step in args.steps:
        what, _, value = step.partition(":")
        if call.over:
            break
        if what == "wait":
            until(lambda: call.over, float(value))
        elif what == "ring":
            call.answer(status(180))
        elif what == "early":
            call.answer(status(183))
        elif what == "answer":
            call.answer(status(200))
            until(lambda: call.confirmed, 5)
        elif what == "keys":
            call.dialDtmf(value)
            until(lambda: call.over, 0.3 * len(value))
        elif what == "info":
            for digit in value:
                prm = pj.CallSendDtmfParam()
                prm.digits, prm.method, prm.duration = digit, pj.PJSUA_DTMF_METHOD_SIP_INFO, 160
                call.sendDtmf(prm)
                until(lambda: call.over, 0.25)
        elif what == "hold":
            call.setHold(pj.CallOpParam(True))
        elif what == "resume":
            prm = pj.CallOpParam(True)
            prm.opt.flag = pj.PJSUA_CALL_UNHOLD
            prm.opt.videoCount = prm.opt.textCount = 0
            call.reinvite(prm)
        elif what == "bye":
            call.hangup(status(200))
        else:
            sys.exit(f"no step {what}")
    until(lambda: call.over, 30)
    until(lambda: False, 0.3)
    # The library aborts while it is taken down under Python; everything is on the wire by now.
    sys.stdout.flush()
    os._exit(0)


main()
