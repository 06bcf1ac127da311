// gopeer is a TLS 1.3 client or server on nothing but Go's crypto/tls, to compare with. It reads one JSON object from
// standard input and writes JSON lines to standard output.
//
// As a server it answers every request with the report of what it saw, and says first on which port it listens.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

type echKey struct {
	Config     []byte `json:"config"`
	PrivateKey []byte `json:"private_key"`
	Retry      bool   `json:"retry"`
}

type job struct {
	Role        string   `json:"role"`
	Address     string   `json:"address"`
	Name        string   `json:"name"`
	Authorities string   `json:"authorities"`
	Chains      []string `json:"chains"` // PEM of certificate and key in one, the default one first
	Groups      []uint16 `json:"groups"`
	ALPN        []string `json:"alpn"`
	ConfigList  []byte   `json:"config_list"`
	Keys        []echKey `json:"keys"`
}

type report struct {
	Port         int    `json:"port,omitempty"`
	Error        string `json:"error,omitempty"`
	Accepted     bool   `json:"accepted"`
	Rejected     bool   `json:"rejected"`
	RetryConfigs []byte `json:"retry_configs"`
	Name         string `json:"name"`
	Group        uint16 `json:"group"`
	Suite        uint16 `json:"suite"`
	ALPN         string `json:"alpn"`
	Retried      bool   `json:"retried"`
	Exported     []byte `json:"exported"`
	Body         string `json:"body,omitempty"`
}

const label = "EXPORTER-interop"

func main() {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		panic(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: j.ALPN}
	for _, group := range j.Groups {
		config.CurvePreferences = append(config.CurvePreferences, tls.CurveID(group))
	}
	if j.Role == "client" {
		client(j, config)
	} else {
		server(j, config)
	}
}

func say(r report) {
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		panic(err)
	}
}

func seen(state tls.ConnectionState) report {
	exported, err := state.ExportKeyingMaterial(label, nil, 32)
	if err != nil {
		panic(err)
	}
	return report{
		Accepted: state.ECHAccepted, Name: state.ServerName, Group: uint16(state.CurveID), Suite: state.CipherSuite,
		ALPN: state.NegotiatedProtocol, Retried: state.HelloRetryRequest, Exported: exported,
	}
}

func client(j job, config *tls.Config) {
	config.ServerName = j.Name
	config.EncryptedClientHelloConfigList = j.ConfigList
	config.RootCAs = x509.NewCertPool()
	config.RootCAs.AppendCertsFromPEM([]byte(j.Authorities))
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", j.Address, config)
	if err != nil {
		var rejection *tls.ECHRejectionError
		rejected := errors.As(err, &rejection)
		r := report{Error: err.Error(), Rejected: rejected}
		if rejected {
			r.RetryConfigs = rejection.RetryConfigList
		}
		say(r)
		return
	}
	connection.SetDeadline(time.Now().Add(10 * time.Second))
	connection.Write([]byte("GET / HTTP/1.0\r\nHost: " + j.Name + "\r\n\r\n"))
	body, err := io.ReadAll(connection)
	r := seen(connection.ConnectionState())
	r.Body = string(body)
	if err != nil {
		r.Error = err.Error()
	}
	say(r)
}

func server(j job, config *tls.Config) {
	for _, chain := range j.Chains {
		pair, err := tls.X509KeyPair([]byte(chain), []byte(chain))
		if err != nil {
			panic(err)
		}
		config.Certificates = append(config.Certificates, pair)
	}
	for _, key := range j.Keys {
		config.EncryptedClientHelloKeys = append(config.EncryptedClientHelloKeys, tls.EncryptedClientHelloKey{
			Config: key.Config, PrivateKey: key.PrivateKey, SendAsRetry: key.Retry,
		})
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		panic(err)
	}
	say(report{Port: listener.Addr().(*net.TCPAddr).Port})
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go serve(connection.(*tls.Conn))
	}
}

func serve(connection *tls.Conn) {
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(10 * time.Second))
	if err := connection.Handshake(); err != nil {
		say(report{Error: err.Error()})
		return
	}
	r := seen(connection.ConnectionState())
	say(r)
	reader := bufio.NewReader(connection)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	body, _ := json.Marshal(r)
	connection.Write(append([]byte("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"), body...))
}
