// Audits a log with the packages that check Go's own checksum database: golang.org/x/mod/sumdb/note and tlog.
//
//	sumdb <log directory> <verifier key> <old checkpoint> <index>...
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

// tiles reads tiles from a directory. tlog-tiles leaves out the height that sumdb has in its paths.
type tiles struct{ directory string }

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		data, err := os.ReadFile(filepath.Join(t.directory, strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func open(data []byte, vkey string) tlog.Tree {
	verifier, err := note.NewVerifier(vkey)
	check(err, "verifier key")
	opened, err := note.Open(data, note.VerifierList(verifier))
	check(err, "note")
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		check(fmt.Errorf("origin %q", lines[0]), "checkpoint")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err, "size")
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err, "root")
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	return tree
}

func entry(directory string, index, size int64) []byte {
	tile := tlog.Tile{H: 8, L: 0, N: index / 256, W: 256}
	if tile.N == size/256 {
		tile.W = int(size % 256)
	}
	path := strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(directory, path))
	check(err, "bundle")
	for skip := index % 256; skip > 0; skip-- {
		data = data[2+binary.BigEndian.Uint16(data):]
	}
	return data[2 : 2+binary.BigEndian.Uint16(data)]
}

func main() {
	directory, vkey := os.Args[1], os.Args[2]
	data, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	check(err, "checkpoint")
	tree := open(data, vkey)
	reader := tlog.TileHashReader(tree, tiles{directory})

	old, err := os.ReadFile(os.Args[3])
	check(err, "old checkpoint")
	before := open(old, vkey)
	consistency, err := tlog.ProveTree(tree.N, before.N, reader)
	check(err, "consistency proof")
	check(tlog.CheckTree(consistency, tree.N, tree.Hash, before.N, before.Hash), "consistency")

	for _, argument := range os.Args[4:] {
		index, err := strconv.ParseInt(argument, 10, 64)
		check(err, "index")
		proof, err := tlog.ProveRecord(tree.N, index, reader)
		check(err, "inclusion proof")
		leaf := tlog.RecordHash(entry(directory, index, tree.N))
		check(tlog.CheckRecord(proof, tree.N, tree.Hash, index, leaf), "inclusion")
		var joined bytes.Buffer
		for _, hash := range proof {
			joined.WriteString(" " + base64.StdEncoding.EncodeToString(hash[:]))
		}
		fmt.Printf("%d%s\n", index, joined.String())
	}
}
